package sinks

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
)

// Type describes one kind of sink to the registry.
type Type struct {
	// Name is what configuration calls it, such as "gcs".
	Name string
	// Summary is one sentence for people.
	Summary string
	// Options document the options, in the order to show them.
	Options []Option
	// New makes a sink from its options; it must not touch the network. decode fills a struct with json tags and refuses
	// unknown keys and wrong types. name is the sink's name in its pipeline, unique there.
	New func(name string, decode func(into any) error) (Sink, error)
}

// Option documents one option.
type Option struct {
	Name string
	// Default is the default as written in configuration, "" if the option is required.
	Default string
	// Doc says what it does, its unit and bounds, and why the default is what it is.
	Doc string
	// Secret options are never shown.
	Secret bool
}

var registry struct {
	sync.Mutex
	types []Type
}

// Register adds a kind of sink. It panics if the name is empty, taken, or has no New: a mistake in the program.
func Register(t Type) {
	registry.Lock()
	defer registry.Unlock()
	if t.Name == "" || t.New == nil {
		panic("sinks: Register: a type needs a name and New")
	}
	if slices.ContainsFunc(registry.types, func(u Type) bool { return u.Name == t.Name }) {
		panic("sinks: Register: the type " + t.Name + " is registered twice")
	}
	registry.types = append(registry.types, t)
	slices.SortFunc(registry.types, func(a, b Type) int { return strings.Compare(a.Name, b.Name) })
}

// Types lists the registered kinds by name.
func Types() []Type {
	registry.Lock()
	defer registry.Unlock()
	return slices.Clone(registry.types)
}

// New makes a sink of a registered kind from its options in JSON (an object; empty means no options). Unknown options,
// wrong types and an unknown kind are errors that name what was wrong and what there is.
func New(typeName, name string, options []byte) (Sink, error) {
	types := Types()
	i := slices.IndexFunc(types, func(t Type) bool { return t.Name == typeName })
	if i < 0 {
		var names []string
		for _, t := range types {
			names = append(names, t.Name)
		}
		return nil, fmt.Errorf("sink %s: unknown type %q: use one of %s", name, typeName, strings.Join(names, ", "))
	}
	s, err := types[i].New(name, func(into any) error { return decodeStrict(options, into) })
	if err != nil {
		return nil, fmt.Errorf("sink %s (%s): %w", name, typeName, err)
	}
	switch s.(type) {
	case Writer, Appender:
		return s, nil
	}
	return nil, fmt.Errorf("sink %s (%s): it implements neither Writer nor Appender (a fault of the sink)", name, typeName)
}

func decodeStrict(options []byte, into any) error {
	if len(bytes.TrimSpace(options)) == 0 {
		options = []byte("{}")
	}
	d := json.NewDecoder(bytes.NewReader(options))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("options: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("options: something follows the object")
	}
	return nil
}
