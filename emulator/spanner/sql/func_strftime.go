package sql

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// strftime writes t by a C-like format. Elements of the time of day are refused for dates.
func strftime(layout string, t time.Time, isDate bool) (string, error) {
	var b strings.Builder
	for i := 0; i < len(layout); i++ {
		if layout[i] != '%' || i+1 == len(layout) {
			b.WriteByte(layout[i])
			continue
		}
		i++
		if layout[i] == 'E' && i+1 < len(layout) { // %E3S, %E*S, %Ez, %E4Y
			n, ok := extended(&b, layout[i+1:], t)
			if ok {
				i += n
				continue
			}
		}
		if strings.IndexByte("HIklMpPQrRSsTXzZc", layout[i]) >= 0 && isDate && layout[i] != 'Q' {
			return "", outOfRange("the format element %%%c is not for dates", layout[i])
		}
		s, ok := element(layout[i], t)
		if !ok {
			return "", outOfRange("the format element %%%c is not known", layout[i])
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

func element(c byte, t time.Time) (string, bool) {
	hour12 := (t.Hour()+11)%12 + 1
	iso, isoWeek := t.ISOWeek()
	if goLayout, ok := map[byte]string{
		'A': "Monday", 'a': "Mon", 'B': "January", 'b': "Jan", 'h': "Jan", 'D': "01/02/06", 'x': "01/02/06", 'F': "2006-01-02",
		'd': "02", 'e': "_2", 'H': "15", 'I': "03", 'M': "04", 'm': "01", 'p': "PM", 'P': "pm", 'R': "15:04", 'S': "05", 'T': "15:04:05",
		'X': "15:04:05", 'Y': "2006", 'y': "06", 'c': "Mon Jan _2 15:04:05 2006", 'j': "002", 'z': "-0700", 'r': "03:04:05 PM",
	}[c]; ok {
		return t.Format(goLayout), true
	}
	switch c {
	case '%':
		return "%", true
	case 'n':
		return "\n", true
	case 't':
		return "\t", true
	case 'C':
		return fmt.Sprintf("%02d", t.Year()/100), true
	case 'G':
		return strconv.Itoa(iso), true
	case 'g':
		return fmt.Sprintf("%02d", iso%100), true
	case 'k':
		return fmt.Sprintf("%2d", t.Hour()), true
	case 'l':
		return fmt.Sprintf("%2d", hour12), true
	case 'Q':
		return strconv.Itoa((int(t.Month())-1)/3 + 1), true
	case 's':
		return strconv.FormatInt(t.Unix(), 10), true
	case 'U':
		return fmt.Sprintf("%02d", (t.YearDay()+6-int(t.Weekday()))/7), true
	case 'W':
		return fmt.Sprintf("%02d", (t.YearDay()+6-(int(t.Weekday())+6)%7)/7), true
	case 'u':
		return strconv.Itoa((int(t.Weekday())+6)%7 + 1), true
	case 'V':
		return fmt.Sprintf("%02d", isoWeek), true
	case 'w':
		return strconv.Itoa(int(t.Weekday())), true
	case 'Z':
		if name, _ := t.Zone(); name == "UTC" {
			return "UTC", true
		}
		return "UTC" + strings.TrimSuffix(t.Format("-07:00"), ":00"), true
	}
	return "", false
}

// extended writes what follows %E, and tells how many bytes of the format it took.
func extended(b *strings.Builder, rest string, t time.Time) (int, bool) {
	switch {
	case strings.HasPrefix(rest, "z"):
		b.WriteString(t.Format("-07:00"))
		return 1, true
	case strings.HasPrefix(rest, "4Y"):
		b.WriteString(t.Format("2006"))
		return 2, true
	case strings.HasPrefix(rest, "*S"):
		b.WriteString(t.Format("05.999999999"))
		return 2, true
	case len(rest) >= 2 && rest[0] >= '0' && rest[0] <= '9' && rest[1] == 'S':
		layout := "05"
		if n := int(rest[0] - '0'); n > 0 {
			layout += "." + strings.Repeat("0", n)
		}
		b.WriteString(t.Format(layout))
		return 2, true
	}
	return 0, false
}

// parsed is what strptime has read so far.
type parsed struct {
	year, month, day, hour, minute, second, nano int
	pm, has12                                    bool
	zone                                         *time.Location
	unix                                         *int64
}

// strptime reads s by a C-like format. What the format leaves out is 1970-01-01 00:00:00 in the zone.
func strptime(layout, s string, l *time.Location) (time.Time, error) {
	p := &parsed{year: 1970, month: 1, day: 1, zone: l}
	bad := func() (time.Time, error) {
		return time.Time{}, outOfRange("Failed to parse input string %q with the format %q", s, layout)
	}
	rest := s
	for i := 0; i < len(layout); i++ {
		switch c := layout[i]; {
		case c == ' ' || c == '\t' || c == '\n':
			rest = strings.TrimLeft(rest, " \t\n")
		case c != '%' || i+1 == len(layout):
			if rest == "" || rest[0] != c {
				return bad()
			}
			rest = rest[1:]
		default:
			i++
			take := layout[i]
			if take == 'E' && i+2 < len(layout) && layout[i+2] == 'S' {
				i += 2
				take = 'f'
			} else if take == 'E' && i+1 < len(layout) && layout[i+1] == 'z' {
				i++
				take = 'z'
			}
			var ok bool
			if rest, ok = p.take(take, rest); !ok {
				return bad()
			}
		}
	}
	if strings.TrimSpace(rest) != "" {
		return bad()
	}
	if p.unix != nil {
		return time.Unix(*p.unix, 0), nil
	}
	if p.has12 {
		p.hour %= 12
		if p.pm {
			p.hour += 12
		}
	}
	t := time.Date(p.year, time.Month(p.month), p.day, p.hour, p.minute, p.second, p.nano, p.zone)
	if t.Day() != p.day || p.month < 1 || p.month > 12 || p.hour > 23 || p.minute > 59 || p.second > 60 {
		return bad()
	}
	return t, nil
}

// number reads up to n digits.
func number(s string, n int, into *int) (string, bool) {
	s = strings.TrimLeft(s, " ")
	i := 0
	for i < len(s) && i < n && s[i] >= '0' && s[i] <= '9' {
		i++
	}
	v, err := strconv.Atoi(s[:i])
	*into = v
	return s[i:], err == nil
}

// named reads one of the names, whole or by its first three letters, and gives its place.
func named(s string, n int, name func(int) string, into *int) (string, bool) {
	for i := range n {
		for _, text := range []string{name(i), name(i)[:3]} {
			if len(s) >= len(text) && strings.EqualFold(s[:len(text)], text) {
				*into = i
				return s[len(text):], true
			}
		}
	}
	return s, false
}

// take reads one format element.
func (p *parsed) take(c byte, s string) (rest string, ok bool) {
	composed := map[byte]string{'F': "Y-m-d", 'D': "m/d/y", 'x': "m/d/y", 'T': "H:M:S", 'X': "H:M:S", 'R': "H:M"}[c]
	for i := 0; i < len(composed); i++ {
		if i%2 == 0 {
			s, ok = p.take(composed[i], s)
		} else if s, ok = strings.CutPrefix(s, composed[i:i+1]); !ok {
			return s, false
		}
		if !ok {
			return s, false
		}
	}
	if composed != "" {
		return s, true
	}
	var ignored int
	switch c {
	case 'Y':
		return number(s, 4, &p.year)
	case 'y':
		s, ok = number(s, 2, &p.year)
		if p.year < 69 {
			p.year += 100
		}
		p.year += 1900
		return s, ok
	case 'm':
		return number(s, 2, &p.month)
	case 'd', 'e':
		return number(s, 2, &p.day)
	case 'H', 'k':
		return number(s, 2, &p.hour)
	case 'I', 'l':
		p.has12 = true
		return number(s, 2, &p.hour)
	case 'M':
		return number(s, 2, &p.minute)
	case 'S':
		return number(s, 2, &p.second)
	case 'f':
		return p.seconds(s)
	case 'j':
		p.month = 1
		return number(s, 3, &p.day)
	case 'B', 'b', 'h':
		s, ok = named(s, 12, func(i int) string { return time.Month(i + 1).String() }, &p.month)
		p.month++
		return s, ok
	case 'A', 'a':
		return named(s, 7, func(i int) string { return time.Weekday(i).String() }, &ignored)
	case 'p', 'P':
		if len(s) < 2 || !strings.EqualFold(s[:2], "AM") && !strings.EqualFold(s[:2], "PM") {
			return s, false
		}
		p.has12, p.pm = true, strings.EqualFold(s[:2], "PM")
		return s[2:], true
	case 's':
		i := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '-' })
		if i < 0 {
			i = len(s)
		}
		n, err := strconv.ParseInt(s[:i], 10, 64)
		p.unix = &n
		return s[i:], err == nil
	case 'z', 'Z':
		i := strings.IndexByte(s, ' ')
		if i < 0 {
			i = len(s)
		}
		name := s[:i]
		if len(name) == 5 && (name[0] == '+' || name[0] == '-') {
			name = name[:3] + ":" + name[3:]
		}
		l, err := zone(name)
		p.zone = l
		return s[i:], err == nil
	case '%':
		return strings.CutPrefix(s, "%")
	}
	return s, false
}

// seconds reads seconds with a fraction.
func (p *parsed) seconds(s string) (string, bool) {
	rest, ok := number(s, 2, &p.second)
	if !ok || !strings.HasPrefix(rest, ".") {
		return rest, ok
	}
	i := 1
	for i < len(rest) && i < 10 && rest[i] >= '0' && rest[i] <= '9' {
		i++
	}
	n, err := strconv.Atoi((rest[1:i] + "000000000")[:9])
	p.nano = n
	return rest[i:], err == nil
}
