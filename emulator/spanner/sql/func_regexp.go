package sql

import (
	"regexp"
	"strings"
	"sync"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// patterns remembers compiled regular expressions: a query uses the same one for each row. It is emptied when full.
var patterns = struct {
	sync.Mutex
	byText map[string]*regexp.Regexp
}{byText: map[string]*regexp.Regexp{}}

const maxPatterns = 1000

func compilePattern(text string) (*regexp.Regexp, error) {
	patterns.Lock()
	defer patterns.Unlock()
	if re := patterns.byText[text]; re != nil {
		return re, nil
	}
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, outOfRange("Cannot parse regular expression: %v", err)
	}
	if len(patterns.byText) >= maxPatterns {
		clear(patterns.byText)
	}
	patterns.byText[text] = re
	return re, nil
}

func thrice(t *store.Type) []*store.Type { return []*store.Type{t, t, t} }

func arrayOf(t *store.Type) *store.Type {
	if t == bytesType {
		return bytesArray
	}
	return stringArray
}

// matching gives a function its compiled second argument.
func withPattern(fn func(re *regexp.Regexp, v values) (store.Value, error)) func(bool, values) (store.Value, error) {
	return func(_ bool, v values) (store.Value, error) {
		re, err := compilePattern(v[1].Text)
		if err != nil {
			return store.Value{}, err
		}
		return fn(re, v)
	}
}

// oneGroup refuses what REGEXP_EXTRACT cannot choose from, and is the group to extract.
func oneGroup(re *regexp.Regexp) (int, error) {
	if re.NumSubexp() > 1 {
		return 0, outOfRange("Regular expression passed to REGEXP_EXTRACT must not have more than 1 capturing group")
	}
	return re.NumSubexp(), nil
}

var regexpFunctions = map[string][]function{
	"REGEXP_CONTAINS": both(always(boolType), twice, 0, withPattern(func(re *regexp.Regexp, v values) (store.Value, error) {
		return boolValue(re.MatchString(v[0].Text)), nil
	})),
	"REGEXP_EXTRACT": both(itself, twice, 0, withPattern(func(re *regexp.Regexp, v values) (store.Value, error) {
		g, err := oneGroup(re)
		if err != nil {
			return store.Value{}, err
		}
		m := re.FindStringSubmatchIndex(v[0].Text)
		if m == nil || m[2*g] < 0 {
			return store.Value{}, nil
		}
		return textValue(v[0].Text[m[2*g]:m[2*g+1]]), nil
	})),
	"REGEXP_EXTRACT_ALL": both(arrayOf, twice, 0, withPattern(func(re *regexp.Regexp, v values) (store.Value, error) {
		g, err := oneGroup(re)
		if err != nil {
			return store.Value{}, err
		}
		var list values
		for _, m := range re.FindAllStringSubmatch(v[0].Text, -1) {
			list = append(list, textValue(m[g]))
		}
		return listValue(list), nil
	})),
	"REGEXP_REPLACE": both(itself, thrice, 0, withPattern(func(re *regexp.Regexp, v values) (store.Value, error) {
		with, err := replacement(re, v[2].Text)
		if err != nil {
			return store.Value{}, err
		}
		return textValue(re.ReplaceAllString(v[0].Text, with)), nil
	})),
}

// replacement turns \1 into Go's ${1}.
func replacement(re *regexp.Regexp, s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '$':
			b.WriteString("$$")
		case s[i] != '\\':
			b.WriteByte(s[i])
		case i+1 < len(s) && s[i+1] == '\\':
			b.WriteByte('\\')
			i++
		case i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9':
			if int(s[i+1]-'0') > re.NumSubexp() {
				return "", outOfRange("Invalid REGEXP_REPLACE pattern: group %c is not in the regular expression", s[i+1])
			}
			b.WriteString("${" + s[i+1:i+2] + "}")
			i++
		default:
			return "", outOfRange("Invalid REGEXP_REPLACE pattern: a backslash must be followed by a digit or a backslash")
		}
	}
	return b.String(), nil
}
