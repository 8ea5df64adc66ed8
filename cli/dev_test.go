package cli

import (
	"errors"
	"strings"
	"testing"
)

func TestParseSinks(t *testing.T) {
	got, err := parseSinks([]string{"stdout", `jsonlines={"file":"a=b"}`})
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	if got[0].Name != "stdout" || got[0].Type != "stdout" || len(got[0].Options) != 0 {
		t.Errorf("stdout became %+v", got[0])
	}
	if got[1].Name != "jsonlines" || string(got[1].Options) != `{"file":"a=b"}` {
		t.Errorf("jsonlines became %+v", got[1])
	}
	for flags, want := range map[string]string{
		"stdout stdout": "given twice", "stdout={": "want TYPE=OPTIONS", "stdout=": "want TYPE=OPTIONS", "pubsub": "has a sink of that name",
	} {
		_, err := parseSinks(strings.Fields(flags))
		if err == nil || !strings.Contains(err.Error(), want) || !errors.As(err, new(*usageError)) {
			t.Errorf("%s: %v, want a mistake of usage that says %q", flags, err, want)
		}
	}
}
