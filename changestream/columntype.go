package changestream

import (
	"strings"

	"github.com/spanledger/spanledger/change"
)

// parseType reads a type as INFORMATION_SCHEMA spells it: STRING(MAX), ARRAY<INT64>, PROTO<a.b>; in the PostgreSQL dialect
// character varying(9), bigint[]. It answers nil for a spelling it does not know.
func (d dialect) parseType(s string) *change.Type {
	if d == postgreSQL {
		return parsePGType(s)
	}
	upper := strings.ToUpper(s)
	if strings.HasPrefix(upper, "ARRAY<") {
		// Options may follow the type, as in ARRAY<FLOAT32>(vector_length=>128).
		end := strings.LastIndexByte(s, '>')
		if paren := strings.LastIndexByte(s, '('); paren > 0 && strings.Contains(s[paren:], "=>") {
			end = strings.LastIndexByte(s[:paren], '>')
		}
		if end < len("ARRAY<") {
			return nil
		}
		elem := d.parseType(strings.TrimSpace(s[len("ARRAY<"):end]))
		if elem == nil || elem.Code == change.CodeArray {
			return nil
		}
		return &change.Type{Code: change.CodeArray, Elem: elem}
	}
	for prefix, code := range map[string]change.Code{"PROTO<": change.CodeProto, "ENUM<": change.CodeEnum} {
		if strings.HasPrefix(upper, prefix) && strings.HasSuffix(s, ">") {
			return &change.Type{Code: code, ProtoName: strings.Trim(s[len(prefix):len(s)-1], "`")}
		}
	}
	name, _, _ := strings.Cut(upper, "(")
	for c := change.CodeBool; c <= change.CodeUUID; c++ {
		if c != change.CodeArray && c != change.CodeStruct && c.String() == name {
			return &change.Type{Code: c}
		}
	}
	return nil
}

var pgTypes = map[string]change.Type{
	"boolean":                  {Code: change.CodeBool},
	"bigint":                   {Code: change.CodeInt64},
	"double precision":         {Code: change.CodeFloat64},
	"real":                     {Code: change.CodeFloat32},
	"numeric":                  {Code: change.CodeNumeric, Annotation: change.PGNumeric},
	"character varying":        {Code: change.CodeString},
	"text":                     {Code: change.CodeString},
	"bytea":                    {Code: change.CodeBytes},
	"date":                     {Code: change.CodeDate},
	"timestamp with time zone": {Code: change.CodeTimestamp},
	"spanner.commit_timestamp": {Code: change.CodeTimestamp},
	"jsonb":                    {Code: change.CodeJSON, Annotation: change.PGJSONB},
	"uuid":                     {Code: change.CodeUUID},
	"interval":                 {Code: change.CodeInterval},
	"oid":                      {Code: change.CodeInt64, Annotation: change.PGOID},
}

func parsePGType(s string) *change.Type {
	s = strings.ToLower(strings.TrimSpace(s))
	if elem, ok := strings.CutSuffix(s, "[]"); ok {
		t := parsePGType(elem)
		if t == nil || t.Code == change.CodeArray {
			return nil
		}
		return &change.Type{Code: change.CodeArray, Elem: t}
	}
	name, _, _ := strings.Cut(s, "(")
	if t, ok := pgTypes[strings.TrimSpace(name)]; ok {
		return &t
	}
	return nil
}
