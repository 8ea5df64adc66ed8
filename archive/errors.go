package archive

import "fmt"

// ForeignError says that the archive at this place belongs to another database or stream, or to a newer format.
type ForeignError struct {
	// Have is what the archive's manifest says, Want what was asked for.
	Have, Want Manifest
}

// Error names both and what to do.
func (e *ForeignError) Error() string {
	if e.Have.Format != e.Want.Format {
		return fmt.Sprintf("archive: %s has format version %d, this release reads version %d: use a newer release", manifestName, e.Have.Format, e.Want.Format)
	}
	if e.Have.Database == e.Want.Database && e.Have.Stream == e.Want.Stream && !differ(e.Have.Identity, e.Want.Identity) {
		return fmt.Sprintf("archive: the archive here is pipeline %s's, which writes the same changes as pipeline %s would: "+
			"give this pipeline a prefix of its own, or its old name", e.Have.Pipeline, e.Want.Pipeline)
	}
	return fmt.Sprintf("archive: the archive here holds stream %s of database %s%s, not stream %s of database %s%s: give this pipeline a prefix of its own",
		e.Have.Stream, e.Have.Database, identityNote(e.Have.Identity), e.Want.Stream, e.Want.Database, identityNote(e.Want.Identity))
}

func identityNote(id string) string {
	if id == "" {
		return ""
	}
	return " (" + id + ")"
}

// CorruptError says that an object is not what its name, its metadata or its digest say.
type CorruptError struct {
	// Name is the object's name below the archive's prefix.
	Name string
	// Reason says what does not match.
	Reason error
}

// Error names the object and the reason.
func (e *CorruptError) Error() string { return fmt.Sprintf("archive: object %s: %v", e.Name, e.Reason) }

// Unwrap gives the reason.
func (e *CorruptError) Unwrap() error { return e.Reason }

func corrupt(name, format string, args ...any) error {
	return &CorruptError{name, fmt.Errorf(format, args...)}
}

// ChainError says that a chain's segments do not follow one another.
type ChainError struct {
	// Name is the segment that does not follow Previous, the one before it in the listing, "" if there is none.
	Name, Previous string
	// Reason says what does not match.
	Reason string
}

// Error names both segments.
func (e *ChainError) Error() string {
	if e.Previous == "" {
		return fmt.Sprintf("archive: segment %s is the first of its chain in the archive, but %s", e.Name, e.Reason)
	}
	return fmt.Sprintf("archive: segment %s does not follow %s: %s", e.Name, e.Previous, e.Reason)
}
