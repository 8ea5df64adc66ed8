package rawjson

import "encoding/base64"

var strictBase64 = base64.StdEncoding.Strict()

// Base64Len is the number of bytes that padded base64 text stands for; false if its length is that of none.
func Base64Len(text []byte) (n int, ok bool) {
	n = len(text) / 4 * 3
	for i := len(text) - 1; i >= 0 && i >= len(text)-2 && text[i] == '='; i-- {
		n--
	}
	return n, len(text)%4 == 0 && n >= 0
}

// AppendBase64 appends what padded base64 text stands for: as many bytes as Base64Len says. It refuses what would not come back as
// the same text, and leaves dst as it was then.
func AppendBase64(dst, text []byte) ([]byte, bool) {
	n, ok := Base64Len(text)
	if !ok {
		return dst, false
	}
	mark := len(dst)
	dst, err := strictBase64.AppendDecode(dst, text)
	if err != nil || len(dst)-mark != n { // the decoder skips line ends, which would not come back
		return dst[:mark], false
	}
	return dst, true
}
