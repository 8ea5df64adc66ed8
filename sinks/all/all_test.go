package all

import (
	"strings"
	"testing"

	"github.com/spanledger/spanledger/sinks"
)

func TestRegister(t *testing.T) {
	Register()
	for _, typ := range sinks.Types() {
		if typ.Summary == "" {
			t.Errorf("%s has no summary", typ.Name)
		}
		// Every sink refuses an option it does not know, and none touches the network yet.
		_, err := sinks.New(typ.Name, "s", []byte(`{"no_such_option":1}`))
		if err == nil || !strings.Contains(err.Error(), "no_such_option") {
			t.Errorf("%s took an unknown option: %v", typ.Name, err)
		}
	}
	if len(sinks.Types()) != len(Types()) {
		t.Errorf("registered %d of %d", len(sinks.Types()), len(Types()))
	}
	if _, err := sinks.New("stdout", "s", nil); err != nil {
		t.Error(err)
	}
	if _, err := sinks.New("pubsub", "s", []byte(`{"topic":"projects/p/topics/changes"}`)); err != nil {
		t.Error(err)
	}
}
