package bigquerysink

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/spanledger/spanledger/change"
)

// longestPlainName is the longest name that is taken over as it is; BigQuery allows tables 1,024 bytes and columns 300.
const longestPlainName = 200

// TableID is the id of the BigQuery table that holds the changes of a Spanner table. Different tables have different ids:
//
//   - carts stays carts, if it is a letter or underscore and then letters, digits and single underscores;
//   - shop.stock becomes shop__stock, if both parts are of that kind, and neither has an underscore next to the point;
//   - every other name becomes its letters and digits, other characters replaced by underscores, then "__0" and 16 hex digits
//     of the name's SHA-256.
func TableID(prefix, table string) string {
	schema, name, qualified := strings.Cut(table, ".")
	switch {
	case len(table) > longestPlainName:
	case !qualified && plainName(table):
		return prefix + table
	case qualified && plainName(schema) && plainName(name) && schema[len(schema)-1] != '_' && name[0] != '_':
		return prefix + schema + "__" + name
	}
	sum := sha256.Sum256([]byte(table))
	base := strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && nameByte(byte(r), false) {
			return r
		}
		return '_'
	}, table[:min(len(table), longestPlainName)])
	return prefix + base + "__0" + hex.EncodeToString(sum[:8])
}

func plainName(s string) bool {
	for i := range len(s) {
		if !nameByte(s[i], i == 0) {
			return false
		}
	}
	return s != "" && !strings.Contains(s, "__")
}

func nameByte(c byte, first bool) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || !first && c >= '0' && c <= '9'
}

// chainID names a chain in the _chain column and in its claim: 32 hex digits of the SHA-256 of what makes a chain.
func chainID(c change.Chain) string {
	var b []byte
	for _, part := range [...]string{c.Pipeline, c.Token, c.Table} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(part)))
		b = append(b, part...)
	}
	b = binary.BigEndian.AppendUint64(b, uint64(c.Incarnation))
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}

// claimID is the id of the empty table that is a chain's claim. No TableID is like it: a table's name begins no part with a
// digit, and a hashed name ends otherwise.
func claimID(prefix string, chain change.Chain) string {
	return prefix + "spanledger_chain__0" + chainID(chain)
}

// reservedPrefixes begin columns BigQuery keeps for itself, in any case.
var reservedPrefixes = []string{"_TABLE_", "_FILE_", "_PARTITION", "_ROW_TIMESTAMP", "__ROOT__", "_COLIDENTIFIER", "_CHANGE_"}

// columnName is the first choice for a Spanner column's name. A name BigQuery allows stays as it is; every other character
// becomes _u, its code point in hex, and another _; in front of a digit or a reserved name comes "c_".
func columnName(original string) string {
	var b strings.Builder
	for _, r := range original {
		if r < utf8.RuneSelf && nameByte(byte(r), false) {
			b.WriteByte(byte(r))
		} else {
			b.WriteString("_u" + strconv.FormatInt(int64(r), 16) + "_")
		}
	}
	name := b.String()
	if name == "" || !nameByte(name[0], true) {
		name = "c_" + name
	}
	upper := strings.ToUpper(name)
	for _, p := range reservedPrefixes {
		if strings.HasPrefix(upper, p) {
			name = "c_" + name
			break
		}
	}
	return name[:min(len(name), longestPlainName)]
}
