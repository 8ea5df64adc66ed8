package rawjson

// Elements walks over a JSON array of scalars. It allocates nothing.
type Elements struct {
	rest []byte
	bad  bool
	more bool // an element must follow
}

// ArrayOf begins a walk over v, trimmed.
func ArrayOf(v []byte) Elements {
	if len(v) < 2 || v[0] != '[' || v[len(v)-1] != ']' {
		return Elements{bad: true}
	}
	return Elements{rest: Trim(v[1 : len(v)-1])}
}

// Next is the next element's text, part of the array's, or false at the end and where the array is malformed; Bad tells which.
func (e *Elements) Next() ([]byte, bool) {
	if e.bad || len(e.rest) == 0 {
		e.bad = e.bad || e.more
		return nil, false
	}
	n := scalarLen(e.rest)
	if n == 0 {
		e.bad = true
		return nil, false
	}
	elem := e.rest[:n]
	e.rest = Trim(e.rest[n:])
	e.more = false
	if len(e.rest) > 0 {
		if e.rest[0] != ',' {
			e.bad = true
			return nil, false
		}
		e.rest, e.more = Trim(e.rest[1:]), true
	}
	return elem, true
}

// Bad reports whether what was walked over so far shows that the value is no array of scalars.
func (e *Elements) Bad() bool { return e.bad }

// scalarLen is the length of the scalar v begins with, 0 if it begins with none. What is inside is the reader's to check.
func scalarLen(v []byte) int {
	if v[0] == '"' {
		for i := 1; i < len(v); i++ {
			switch v[i] {
			case '\\':
				i++
			case '"':
				return i + 1
			}
		}
		return 0
	}
	for i, c := range v {
		switch {
		case c == ',' || isSpace(c):
			return i
		case c == '[' || c == ']' || c == '{' || c == '}' || c == '"':
			return 0
		}
	}
	return len(v)
}
