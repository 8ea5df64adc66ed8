package official

import (
	"context"
	"errors"
)

// TB is the part of testing.TB that the helpers for tests need; naming it here
// keeps the testing package out of programs.
type TB interface {
	Helper()
	Cleanup(func())
	Context() context.Context
	Logf(format string, args ...any)
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

// SpannerForTest starts a Spanner emulator that stops with the test, and skips
// the test, saying which program is missing, where there is none.
func SpannerForTest(t TB, opts SpannerOptions) *Process {
	t.Helper()
	p, err := StartSpanner(t.Context(), opts)
	return forTest(t, p, err)
}

// PubSubForTest starts a Pub/Sub emulator that stops with the test, and skips
// the test, saying which program is missing, where there is none.
func PubSubForTest(t TB, opts PubSubOptions) *Process {
	t.Helper()
	p, err := StartPubSub(t.Context(), opts)
	return forTest(t, p, err)
}

func forTest(t TB, p *Process, err error) *Process {
	t.Helper()
	if errors.Is(err, ErrNotInstalled) {
		t.Logf("NOT TESTED against Google's own emulator: %v", err)
		t.Skipf("%v", err)
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() {
		if err := p.Stop(); err != nil {
			t.Errorf("%v", err)
		}
	})
	return p
}
