package check

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// fingerprint is the archive's name of a schema: the CRC-64-AVRO of its parsing canonical form and the beginning of the
// SHA-256 of its compact text, in hex. The canonical form is made here, by Avro's specification: goavro keeps an object
// around a primitive whose logical type it has stripped, which the specification does not.
func fingerprint(schema []byte) (string, error) {
	v, err := parseJSON(schema)
	if err != nil {
		return "", fmt.Errorf("its schema: %w", err)
	}
	canonical, err := canonicalSchema(v, "", 0)
	if err != nil {
		return "", fmt.Errorf("its schema: %w", err)
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, schema); err != nil {
		return "", fmt.Errorf("its schema: %w", err)
	}
	sum := sha256.Sum256(compact.Bytes())
	return fmt.Sprintf("%016x-%s", crcAvro(canonical), hex.EncodeToString(sum[:8])), nil
}

const maxSchemaDepth = 64

var primitives = map[string]bool{"null": true, "boolean": true, "int": true, "long": true, "float": true, "double": true, "bytes": true, "string": true}

func canonicalSchema(v any, namespace string, depth int) (string, error) {
	if depth > maxSchemaDepth {
		return "", fmt.Errorf("it is nested more than %d deep", maxSchemaDepth)
	}
	sub := func(v any) (string, error) { return canonicalSchema(v, namespace, depth+1) }
	switch v := v.(type) {
	case string:
		if primitives[v] {
			return quote(v), nil
		}
		return quote(fullName(v, namespace)), nil
	case []any:
		return list(len(v), func(i int) (string, error) { return sub(v[i]) })
	case map[string]any:
		typ, ok := v["type"].(string)
		if !ok {
			return sub(v["type"])
		}
		if primitives[typ] {
			return quote(typ), nil
		}
		var out []string
		if name, ok := v["name"].(string); ok {
			if space, ok := v["namespace"].(string); ok && !strings.Contains(name, ".") {
				namespace = space
			}
			name = fullName(name, namespace)
			namespace = name[:max(strings.LastIndex(name, "."), 0)]
			out = append(out, `"name":`+quote(name))
		}
		out = append(out, `"type":`+quote(typ))
		if fields, ok := v["fields"].([]any); ok {
			text, err := list(len(fields), func(i int) (string, error) {
				f, _ := fields[i].(map[string]any)
				name, ok := f["name"].(string)
				if !ok {
					return "", fmt.Errorf("field %d has no name", i)
				}
				t, err := canonicalSchema(f["type"], namespace, depth+1)
				return `{"name":` + quote(name) + `,"type":` + t + `}`, err
			})
			if err != nil {
				return "", err
			}
			out = append(out, `"fields":`+text)
		}
		if symbols, ok := v["symbols"]; ok {
			out = append(out, `"symbols":`+plain(symbols))
		}
		for _, k := range []string{"items", "values"} {
			if inner, ok := v[k]; ok {
				text, err := canonicalSchema(inner, namespace, depth+1)
				if err != nil {
					return "", err
				}
				out = append(out, `"`+k+`":`+text)
			}
		}
		if size, ok := v["size"]; ok {
			out = append(out, `"size":`+plain(size))
		}
		return "{" + strings.Join(out, ",") + "}", nil
	}
	return "", fmt.Errorf("%s is not a schema", short(plain(v)))
}

func fullName(name, namespace string) string {
	if namespace == "" || strings.Contains(name, ".") {
		return name
	}
	return namespace + "." + name
}

// crcAvro is Avro's CRC-64 of a text, whose polynomial doubles as its value for nothing.
func crcAvro(s string) uint64 {
	const empty = 0xc15d213aa4d7a795
	crc := uint64(empty)
	for i := range len(s) {
		crc ^= uint64(s[i])
		for range 8 {
			crc = crc>>1 ^ empty&-(crc&1)
		}
	}
	return crc
}
