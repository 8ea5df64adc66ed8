package rawjson

// Dates and times by the proleptic Gregorian calendar, as Spanner counts them: years 1 to 9999, no leap seconds.

// The first and last day, in days since 1970-01-01.
const (
	MinDay = -719162 // 0001-01-01
	MaxDay = 2932896 // 9999-12-31
)

// number reads n digits at the start of v.
func number(v []byte, n int) (int, bool) {
	if len(v) < n {
		return 0, false
	}
	x := 0
	for _, c := range v[:n] {
		if c < '0' || c > '9' {
			return 0, false
		}
		x = x*10 + int(c-'0')
	}
	return x, true
}

func leap(year int) bool { return year%4 == 0 && (year%100 != 0 || year%400 == 0) }

var daysBefore = [...]int{0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365}

// ParseDate reads YYYY-MM-DD as days since 1970-01-01.
func ParseDate(v []byte) (int, bool) {
	if len(v) != 10 || v[4] != '-' || v[7] != '-' {
		return 0, false
	}
	year, ok1 := number(v, 4)
	month, ok2 := number(v[5:], 2)
	day, ok3 := number(v[8:], 2)
	if !ok1 || !ok2 || !ok3 || year < 1 || month < 1 || month > 12 || day < 1 {
		return 0, false
	}
	length := daysBefore[month] - daysBefore[month-1]
	before := daysBefore[month-1]
	if leap(year) {
		if month == 2 {
			length++
		} else if month > 2 {
			before++
		}
	}
	if day > length {
		return 0, false
	}
	y := year - 1
	return MinDay + y*365 + y/4 - y/100 + y/400 + before + day - 1, true
}

// AppendDate appends a day of MinDay..MaxDay as YYYY-MM-DD.
func AppendDate(dst []byte, day int) []byte {
	n := day - MinDay
	year := 1 + n/146097*400
	n %= 146097
	for _, span := range [...]struct{ days, years, most int }{{36524, 100, 3}, {1461, 4, 24}, {365, 1, 3}} {
		k := min(n/span.days, span.most)
		year, n = year+k*span.years, n-k*span.days
	}
	month := 1
	for ; ; month++ {
		length := daysBefore[month] - daysBefore[month-1]
		if month == 2 && leap(year) {
			length++
		}
		if n < length {
			break
		}
		n -= length
	}
	dst = appendDigits(dst, year, 4)
	dst = appendDigits(append(dst, '-'), month, 2)
	return appendDigits(append(dst, '-'), n+1, 2)
}

func appendDigits(dst []byte, x, n int) []byte {
	for range n {
		dst = append(dst, '0')
	}
	for i := len(dst) - 1; n > 0; i, n = i-1, n-1 {
		dst[i] = byte('0' + x%10)
		x /= 10
	}
	return dst
}

// ParseTimestamp reads RFC 3339 as microseconds since 1970, floored; exact says that nothing was cut off.
func ParseTimestamp(v []byte) (micros int64, exact, ok bool) {
	if len(v) < len("2006-01-02T15:04:05Z") || v[10] != 'T' || v[13] != ':' || v[16] != ':' {
		return 0, false, false
	}
	day, ok1 := ParseDate(v[:10])
	hour, ok2 := number(v[11:], 2)
	minute, ok3 := number(v[14:], 2)
	second, ok4 := number(v[17:], 2)
	if !ok1 || !ok2 || !ok3 || !ok4 || hour > 23 || minute > 59 || second > 59 {
		return 0, false, false
	}
	v = v[19:]
	exact = true
	fraction := 0
	if v[0] == '.' {
		n := 1
		for ; n < len(v) && v[n] >= '0' && v[n] <= '9'; n++ {
			if n <= 6 {
				fraction = fraction*10 + int(v[n]-'0')
			} else if v[n] != '0' {
				exact = false
			}
		}
		if n == 1 || n > 10 {
			return 0, false, false
		}
		for i := n; i <= 6; i++ {
			fraction *= 10
		}
		v = v[n:]
	}
	offset := 0
	switch {
	case len(v) == 1 && v[0] == 'Z':
	case len(v) == 6 && (v[0] == '+' || v[0] == '-') && v[3] == ':':
		h, ok1 := number(v[1:], 2)
		m, ok2 := number(v[4:], 2)
		if !ok1 || !ok2 || h > 23 || m > 59 {
			return 0, false, false
		}
		if offset = h*60 + m; v[0] == '-' {
			offset = -offset
		}
	default:
		return 0, false, false
	}
	micros = (int64(day)*86400+int64(hour*3600+(minute-offset)*60+second))*1_000_000 + int64(fraction)
	if micros < MinDay*86400_000_000 || micros >= (MaxDay+1)*86400_000_000 {
		return 0, false, false
	}
	return micros, exact, true
}

// AppendTimestamp appends RFC 3339 in UTC, the fraction only as needed. micros, since 1970, is in the years 1 to 9999.
func AppendTimestamp(dst []byte, micros int64) []byte {
	day := micros / 86400_000_000
	rest := micros % 86400_000_000
	if rest < 0 {
		day, rest = day-1, rest+86400_000_000
	}
	dst = AppendDate(dst, int(day))
	seconds, fraction := int(rest/1_000_000), int(rest%1_000_000)
	dst = appendDigits(append(dst, 'T'), seconds/3600, 2)
	dst = appendDigits(append(dst, ':'), seconds/60%60, 2)
	dst = appendDigits(append(dst, ':'), seconds%60, 2)
	if fraction != 0 {
		dst = appendDigits(append(dst, '.'), fraction, 6)
		for dst[len(dst)-1] == '0' {
			dst = dst[:len(dst)-1]
		}
	}
	return append(dst, 'Z')
}
