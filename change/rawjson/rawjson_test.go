package rawjson_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/spanledger/spanledger/change/rawjson"
)

func Example() {
	v := rawjson.Trim([]byte(` ["a", "b\n", null] `))
	for items := rawjson.ArrayOf(v); ; {
		item, ok := items.Next()
		if !ok {
			fmt.Println("malformed:", items.Bad())
			return
		}
		if rawjson.IsNull(item) {
			fmt.Println("NULL")
			continue
		}
		content, escaped, _ := rawjson.PlainString(item)
		if escaped {
			content, _ = rawjson.Unescape(nil, item)
		}
		fmt.Printf("%q\n", content)
	}
	// Output:
	// "a"
	// "b\n"
	// NULL
	// malformed: false
}

// FuzzString holds PlainString, Unescape and AppendString against encoding/json, which differs in one thing: it lets half a
// surrogate pair and bytes that are no UTF-8 pass as U+FFFD.
func FuzzString(f *testing.F) {
	for _, s := range []string{`""`, `"a"`, `"\u0041\n\/"`, `"\ud83d\ude00"`, `"\ud83d"`, `"\ud83dx"`, "\"\xff\"", `"\x"`, `"a`, `"a"b"`, "\"\x01\"", `"\u12"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		content, escaped, ok := rawjson.PlainString(v)
		if escaped {
			dst := []byte("before")
			if dst, ok = rawjson.Unescape(dst, v); string(dst[:6]) != "before" || !ok && len(dst) != 6 {
				t.Fatalf("%q: %q", v, dst)
			}
			content = dst[6:]
		}
		var want string
		err := json.Unmarshal(v, &want)
		isString := err == nil && len(v) > 0 && v[0] == '"' && v[len(v)-1] == '"'
		if ok && (!isString || want != string(content) || !utf8.Valid(content)) {
			t.Fatalf("%q: got %q, want %q %v", v, content, want, err)
		}
		if !ok && isString && utf8.Valid(v) && !containsReplacement(want) {
			t.Fatalf("%q: refused, want %q", v, want)
		}
		var back string
		if err := json.Unmarshal(rawjson.AppendString(nil, content), &back); err != nil || back != string(content) {
			t.Fatalf("%q came back as %q: %v", content, back, err)
		}
		if err := json.Unmarshal(rawjson.AppendString(nil, string(v)), &back); err != nil || back != string([]rune(string(v))) {
			t.Fatalf("%q came back as %q: %v", v, back, err)
		}
	})
}

func containsReplacement(s string) bool {
	for _, r := range s {
		if r == utf8.RuneError {
			return true
		}
	}
	return false
}

func FuzzNumber(f *testing.F) {
	for _, s := range []string{"0", "-0", "01", "1.5e+3", "1.", ".5", "1e", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "1e999", "1e-999", "0e5", "+1", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		want := json.Valid(v) && len(v) > 0 && (v[0] == '-' || v[0] >= '0' && v[0] <= '9') && string(rawjson.Trim(v)) == string(v)
		if got := rawjson.IsNumber(v); got != want {
			t.Fatalf("IsNumber(%q) = %v", v, got)
		}
		if i, ok := rawjson.ParseInt(v); ok && fmt.Sprint(i) != string(v) {
			t.Fatalf("ParseInt(%q) = %d", v, i)
		}
		var i int64
		if n, err := fmt.Sscanf(string(v), "%d", &i); err == nil && n == 1 && fmt.Sprint(i) == string(v) {
			if got, ok := rawjson.ParseInt(v); !ok || got != i {
				t.Fatalf("ParseInt(%q) = %d, %v", v, got, ok)
			}
		}
		if x, _, ok := rawjson.ParseFloat(v); ok && want {
			var y float64
			if err := json.Unmarshal(v, &y); err != nil || x != y {
				t.Fatalf("ParseFloat(%q) = %v, want %v %v", v, x, y, err)
			}
		}
	})
}

func FuzzTime(f *testing.F) {
	for _, s := range []string{"0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "2024-02-29T12:00:00+05:30", "2023-02-29T00:00:00Z", "1969-12-31T23:59:59.5Z", "2024-01-01"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		if micros, exact, ok := rawjson.ParseTimestamp(v); ok {
			want, err := time.Parse(time.RFC3339Nano, string(v))
			if err != nil || want.Unix()*1e6+int64(want.Nanosecond()/1000) != micros || exact != (want.Nanosecond()%1000 == 0) {
				t.Fatalf("ParseTimestamp(%q) = %d %v, want %v %v", v, micros, exact, want, err)
			}
			again, _, ok := rawjson.ParseTimestamp(rawjson.AppendTimestamp(nil, micros))
			if !ok || again != micros {
				t.Fatalf("%q came back as %d", v, again)
			}
		}
		day, ok := rawjson.ParseDate(v)
		want, err := time.Parse(time.DateOnly, string(v))
		if ok != (err == nil && want.Year() >= 1) {
			t.Fatalf("ParseDate(%q): %v, want %v", v, ok, err)
		}
		if ok && (int64(day) != want.Unix()/86400 || string(rawjson.AppendDate(nil, day)) != string(v)) {
			t.Fatalf("ParseDate(%q) = %d", v, day)
		}
	})
}

func FuzzBase64(f *testing.F) {
	for _, s := range []string{"", "QQ==", "QUI=", "QUJD", "QUJ", "QR==", "Q\nQ==", "====", "=", "QQ=A"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, v []byte) {
		got, ok := rawjson.AppendBase64([]byte("x"), v)
		if got[0] != 'x' || !ok && len(got) != 1 {
			t.Fatalf("%q: %q", v, got)
		}
		want, err := base64.StdEncoding.Strict().DecodeString(string(v))
		canonical := err == nil && base64.StdEncoding.EncodeToString(want) == string(v)
		if ok != canonical || ok && string(got[1:]) != string(want) {
			t.Fatalf("%q: %q %v, want %q %v", v, got[1:], ok, want, err)
		}
	})
}

// TestMalformedArrays: what is no array of scalars is found out, at the latest at its end.
func TestMalformedArrays(t *testing.T) {
	for text, bad := range map[string]bool{
		`[]`: false, `[1]`: false, `[ 1 , "a,]" , null ]`: false,
		``: true, `[`: true, `1`: true, `[1,]`: true, `[,1]`: true, `[1 2]`: true, `[[1]]`: true, `[{}]`: true, `["a]`: true, `[1,,2]`: true,
	} {
		items := rawjson.ArrayOf([]byte(text))
		for {
			if _, ok := items.Next(); !ok {
				break
			}
		}
		if items.Bad() != bad {
			t.Errorf("%s: bad %v", text, items.Bad())
		}
	}
}
