package sinks

import (
	"fmt"
	"time"
)

// Count fills in an option that is a count and was not given, which is 0, and checks it against its bounds, both included. The
// error names the option.
func Count(name string, value *int, normal, least, most int) error {
	if *value == 0 {
		*value = normal
	}
	if *value < least || *value > most {
		return fmt.Errorf("%s: %d is outside %d to %d", name, *value, least, most)
	}
	return nil
}

// Delay reads an option that is a duration such as 100ms, from 0s to most; an empty text means normal. The error names the
// option.
func Delay(name, text string, normal, most time.Duration) (time.Duration, error) {
	if text == "" {
		return normal, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d > most {
		return 0, fmt.Errorf("%s: %q is not a duration from 0s to %s, such as 100ms", name, text, most)
	}
	return d, nil
}
