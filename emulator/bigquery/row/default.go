package row

import (
	"fmt"
	"strings"
	"time"

	"cloud.google.com/go/civil"
)

// Default evaluates a column's default value expression: a literal or a CURRENT_ function. now is the time of the append.
// A column without one has NULL.
func Default(f *Field, now time.Time) (Value, error) {
	expr := strings.TrimSpace(f.Default)
	now = now.UTC().Truncate(time.Microsecond)
	switch strings.TrimSuffix(strings.ToUpper(expr), "()") {
	case "", "NULL":
		return nil, nil
	case "CURRENT_TIMESTAMP":
		if f.Kind == Timestamp {
			return now, nil
		}
	case "CURRENT_DATE":
		if f.Kind == Date {
			return civil.DateOf(now), nil
		}
	case "CURRENT_DATETIME":
		if f.Kind == DateTime {
			return civil.DateTimeOf(now), nil
		}
	case "CURRENT_TIME":
		if f.Kind == Time {
			return civil.TimeOf(now), nil
		}
	}
	if f.Kind == String && len(expr) >= 2 && (expr[0] == '\'' || expr[0] == '"') && expr[len(expr)-1] == expr[0] {
		if text := expr[1 : len(expr)-1]; !strings.ContainsAny(text, `\'"`) {
			return ParseText(f, text)
		}
	}
	if f.Kind == Int64 || f.Kind == Float64 || f.Kind == Bool || f.Kind == Numeric || f.Kind == BigNumeric {
		if v, err := ParseText(f, expr); err == nil {
			return v, nil
		}
	}
	return nil, fmt.Errorf("the default value expression %s of a %s column is %w", expr, f.Kind, ErrUnsupported)
}
