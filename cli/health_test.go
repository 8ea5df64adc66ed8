package cli

import (
	"bytes"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHealth(t *testing.T) {
	well := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer well.Close()
	unwell := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "the sink archive is late", http.StatusServiceUnavailable)
	}))
	defer unwell.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()

	for _, c := range []struct {
		targets string
		code    int
		says    string
	}{
		{well.URL, 0, ""},
		{well.URL + " tcp://" + strings.TrimPrefix(well.URL, "http://"), 0, ""},
		{well.URL + " " + unwell.URL, exitFailed, "503 Service Unavailable: the sink archive is late"},
		{"tcp://" + closed.Addr().String(), exitFailed, "refused"},
		{"http://" + closed.Addr().String(), exitFailed, "refused"},
		{"127.0.0.1:9464", exitUsage, "want http://HOST:PORT/PATH"},
		{"ftp://h/p", exitUsage, "the scheme must be"},
	} {
		var out, errs bytes.Buffer
		code := run(t.Context(), append([]string{"health"}, strings.Fields(c.targets)...), nil, &out, &errs)
		if code != c.code || !strings.Contains(errs.String(), c.says) || (code == 0) != (errs.Len() == 0) {
			t.Errorf("%s: exit %d, %q; want %d, %q", c.targets, code, errs.String(), c.code, c.says)
		}
	}
}
