package fault

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	databasepb "cloud.google.com/go/spanner/admin/database/apiv1/databasepb"
	instancepb "cloud.google.com/go/spanner/admin/instance/apiv1/instancepb"
	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Plan is a list of rules and the seed of their chances. The zero Plan does nothing.
type Plan struct {
	// Seed makes chances repeatable: the same opportunity of the same rule is struck in every run.
	Seed  uint64
	Rules []Rule
}

// Rule is one fault and when it strikes. Make it with ParseRule, or fill in Kind and what differs from its zero value's
// meaning.
type Rule struct {
	Kind Kind
	// P is the chance, 0 to 1; 0 means 1: a rule that never strikes is left out instead.
	P float64
	// Nth, Every and Times are as in plans; 0 means not given.
	Nth, Every, Times int
	// Method and Stream restrict the rule; "" is the kind's usual method and any stream.
	Method, Stream string
	// After and AfterMax bound the rows before a fault; an AfterMax below After means After.
	After, AfterMax int
	// For is a duration; 0 is the kind's default.
	For time.Duration
	// By is how far the clock jumps.
	By time.Duration
	// DDL is a schema statement.
	DDL string
}

// Bounds of a rule's fields.
const (
	maxCount = 1_000_000_000
	maxFor   = time.Hour
	maxBy    = 100 * 365 * 24 * time.Hour
)

// Parse reads a plan; the package's documentation has its grammar. The error names the rule and what it should have been.
func Parse(text string) (Plan, error) {
	var p Plan
	for i, item := range split(text) {
		fail := func(err error) (Plan, error) {
			return Plan{}, fmt.Errorf("fault plan, rule %d, %q: %w", i+1, item, err)
		}
		if seed, ok := strings.CutPrefix(item, "seed="); ok {
			n, err := strconv.ParseUint(seed, 10, 64)
			if err != nil {
				return fail(fmt.Errorf("want seed=N with a whole number N below 2^64"))
			}
			p.Seed = n
			continue
		}
		r, err := ParseRule(item)
		if err != nil {
			return fail(err)
		}
		p.Rules = append(p.Rules, r)
	}
	return p, nil
}

// split cuts a plan at semicolons and line ends that stand outside quotes, and drops comments and empty items.
func split(text string) []string {
	var out []string
	var item strings.Builder
	quoted, escaped, comment := false, false, false
	for _, c := range text + "\n" {
		switch {
		case c == '\n' && !quoted, c == ';' && !quoted && !comment:
			if s := strings.TrimSpace(item.String()); s != "" {
				out = append(out, s)
			}
			item.Reset()
			comment = false
			continue
		case comment:
			continue
		case escaped:
			escaped = false
		case quoted && c == '\\':
			escaped = true
		case c == '"':
			quoted = !quoted
		case c == '#' && !quoted:
			comment = true
			continue
		}
		item.WriteRune(c)
	}
	if s := strings.TrimSpace(item.String()); s != "" { // an open quote
		out = append(out, s)
	}
	return out
}

// ParseRule reads one rule of a plan.
func ParseRule(text string) (Rule, error) {
	words, err := fields(text)
	if err != nil {
		return Rule{}, err
	}
	if len(words) == 0 {
		return Rule{}, fmt.Errorf("want a fault: one of %s", kindList())
	}
	r := Rule{Kind: Kind(words[0])}
	s, ok := specs[r.Kind]
	if !ok {
		return Rule{}, fmt.Errorf("unknown fault %q: want one of %s", words[0], kindList())
	}
	var seen []string
	for _, w := range words[1:] {
		name, value, ok := strings.Cut(w, "=")
		if !ok {
			return Rule{}, fmt.Errorf("%q: want NAME=VALUE", w)
		}
		if slices.Contains(seen, name) {
			return Rule{}, fmt.Errorf("field %s is given twice", name)
		}
		seen = append(seen, name)
		if !slices.Contains(commonFields, name) && !slices.Contains(s.fields, name) {
			return Rule{}, fmt.Errorf("fault %s has no field %q: want %s", r.Kind, name, strings.Join(slices.Concat(commonFields, s.fields), ", "))
		}
		if err := r.set(name, value); err != nil {
			return Rule{}, fmt.Errorf("%s=%s: %w", name, value, err)
		}
	}
	if s.needs != "" && !slices.Contains(seen, s.needs) {
		return Rule{}, fmt.Errorf("fault %s needs the field %s", r.Kind, s.needs)
	}
	return r, r.Check()
}

var commonFields = []string{"p", "nth", "every", "times", "method", "stream"}

func kindList() string {
	var b strings.Builder
	for i, k := range Kinds() {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(string(k))
	}
	return b.String()
}

// fields cuts a rule at white space outside quotes; a quoted value is unquoted.
func fields(text string) ([]string, error) {
	var out []string
	for rest := strings.TrimSpace(text); rest != ""; rest = strings.TrimLeftFunc(rest, unicode.IsSpace) {
		end := strings.IndexFunc(rest, func(c rune) bool { return unicode.IsSpace(c) || c == '"' })
		if end < 0 {
			return append(out, rest), nil
		}
		if rest[end] != '"' {
			out, rest = append(out, rest[:end]), rest[end:]
			continue
		}
		quoted, err := strconv.QuotedPrefix(rest[end:])
		if err != nil {
			return nil, fmt.Errorf("%s: the quotes are not closed", rest)
		}
		value, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", quoted, err)
		}
		out, rest = append(out, rest[:end]+value), rest[end+len(quoted):]
		if rest != "" && !unicode.IsSpace([]rune(rest)[0]) {
			return nil, fmt.Errorf("%q after the closing quote: want a space", rest)
		}
	}
	return out, nil
}

func (r *Rule) set(name, value string) (err error) {
	count := func(to *int, from string, least int) {
		n, cerr := strconv.Atoi(from)
		if cerr != nil || n < least || n > maxCount {
			err = fmt.Errorf("want a whole number from %d to %d", least, maxCount)
		}
		*to = n
	}
	switch name {
	case "p":
		r.P, err = strconv.ParseFloat(value, 64)
		if err != nil || !(r.P > 0 && r.P <= 1) {
			err = fmt.Errorf("want a chance above 0 and up to 1, such as 0.1")
		}
	case "nth":
		count(&r.Nth, value, 1)
	case "every":
		count(&r.Every, value, 1)
	case "times":
		count(&r.Times, value, 1)
	case "method":
		r.Method = value
	case "stream":
		r.Stream = value
	case "after":
		from, to, both := strings.Cut(value, "-")
		if count(&r.After, from, 0); both && err == nil {
			count(&r.AfterMax, to, r.After)
		}
	case "for":
		if r.For, err = time.ParseDuration(value); err != nil {
			err = fmt.Errorf("want a duration such as 500ms or 2s")
		}
	case "by":
		if r.By, err = time.ParseDuration(value); err != nil || r.By == 0 {
			err = fmt.Errorf("want a duration such as 1h or -30s")
		}
	case "ddl":
		if r.DDL = value; value == "" {
			err = fmt.Errorf("want a schema statement")
		}
	}
	return err
}

// Check reports what is wrong with a rule that was not made by ParseRule.
func (r Rule) Check() error {
	s, ok := specs[r.Kind]
	if !ok {
		return fmt.Errorf("unknown fault %q: want one of %s", r.Kind, kindList())
	}
	switch {
	case !(r.P >= 0 && r.P <= 1):
		return fmt.Errorf("fault %s: the chance %v is not from 0 to 1", r.Kind, r.P)
	case r.Nth < 0 || r.Every < 0 || r.Times < 0 || r.After < 0:
		return fmt.Errorf("fault %s: nth, every, times and after must not be negative", r.Kind)
	case r.For < 0 || r.For > maxFor:
		return fmt.Errorf("fault %s: for must be from 0 to %v, not %v", r.Kind, maxFor, r.For)
	case r.By < -maxBy || r.By > maxBy:
		return fmt.Errorf("fault %s: by must be within 100 years, not %v", r.Kind, r.By)
	case s.needs == "ddl" && r.DDL == "", s.needs == "by" && r.By == 0:
		return fmt.Errorf("fault %s needs the field %s", r.Kind, s.needs)
	}
	m := r.method()
	kind := methods[m]
	switch {
	case m != "*" && m != ChangeStream && kind == 0:
		return fmt.Errorf("fault %s: there is no method %q: want the name of an RPC, such as Commit, or %s, or *", r.Kind, m, ChangeStream)
	case m == ChangeStream && r.Point() != Rows:
		return fmt.Errorf("fault %s strikes whole calls: name an RPC, such as ExecuteStreamingSql, not %s", r.Kind, m)
	case m != ChangeStream && r.Stream != "":
		return fmt.Errorf("fault %s: stream=%s goes with method=%s only", r.Kind, r.Stream, ChangeStream)
	case m != ChangeStream && onStreamsOnly(r.Kind):
		return fmt.Errorf("fault %s strikes change-stream queries only, not method %s", r.Kind, m)
	case r.Kind == Lost && kind == streamingMethod:
		return fmt.Errorf("fault %s strikes calls with one answer, and %s has many: use %s", r.Kind, m, Cut)
	case r.Point() == Rows && kind == unaryMethod:
		return fmt.Errorf("fault %s strikes after rows, and %s has one answer", r.Kind, m)
	}
	return nil
}

func (r Rule) method() string {
	if r.Method != "" {
		return r.Method
	}
	if r.Stream != "" && r.Kind == Stall {
		return ChangeStream
	}
	return specs[r.Kind].method
}

// Point is where in a call the rule strikes.
func (r Rule) Point() Point {
	switch r.Kind {
	case Stall:
		if r.After > 0 || r.AfterMax > 0 || r.method() == ChangeStream {
			return Rows
		}
	case Alter:
		if r.method() == ChangeStream {
			return Rows
		}
	}
	return specs[r.Kind].points[0]
}

// String writes the rule as a plan does.
func (r Rule) String() string {
	var b strings.Builder
	b.WriteString(string(r.Kind))
	add := func(name, value string, set bool) {
		if set {
			if strings.ContainsFunc(value, func(c rune) bool { return unicode.IsSpace(c) || strings.ContainsRune(`";#\`, c) || !unicode.IsPrint(c) }) {
				value = strconv.Quote(value)
			}
			b.WriteString(" " + name + "=" + value)
		}
	}
	add("p", strconv.FormatFloat(r.P, 'g', -1, 64), r.P != 0)
	add("nth", strconv.Itoa(r.Nth), r.Nth > 0)
	add("every", strconv.Itoa(r.Every), r.Every > 0)
	add("times", strconv.Itoa(r.Times), r.Times > 0)
	add("method", r.Method, r.Method != "")
	add("stream", r.Stream, r.Stream != "")
	after := strconv.Itoa(r.After)
	if r.AfterMax > r.After {
		after += "-" + strconv.Itoa(r.AfterMax)
	}
	add("after", after, r.After > 0 || r.AfterMax > r.After)
	add("for", r.For.String(), r.For != 0)
	add("by", r.By.String(), r.By != 0)
	add("ddl", r.DDL, r.DDL != "")
	return b.String()
}

// String writes the plan so that Parse reads it again.
func (p Plan) String() string {
	var items []string
	if p.Seed != 0 {
		items = append(items, "seed="+strconv.FormatUint(p.Seed, 10))
	}
	for _, r := range p.Rules {
		items = append(items, r.String())
	}
	return strings.Join(items, "; ")
}

type methodKind uint8

const (
	unaryMethod methodKind = iota + 1
	streamingMethod
)

// methods are all RPCs of the services, by their bare names.
var methods = func() map[string]methodKind {
	out := map[string]methodKind{}
	for _, f := range []protoreflect.FileDescriptor{
		sppb.File_google_spanner_v1_spanner_proto,
		databasepb.File_google_spanner_admin_database_v1_spanner_database_admin_proto,
		instancepb.File_google_spanner_admin_instance_v1_spanner_instance_admin_proto,
	} {
		for i := range f.Services().Len() {
			ms := f.Services().Get(i).Methods()
			for j := range ms.Len() {
				kind := unaryMethod
				if ms.Get(j).IsStreamingServer() {
					kind = streamingMethod
				}
				out[string(ms.Get(j).Name())] = kind
			}
		}
	}
	out["GetOperation"] = unaryMethod
	return out
}()
