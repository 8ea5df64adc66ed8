package store

import "google.golang.org/grpc/codes"

// Spanner's limits on what is written, see https://cloud.google.com/spanner/quotas.
const (
	// MaxMutations is how many mutations one commit may have, as MutationCount counts them.
	MaxMutations = 80_000
	// MaxCommitBytes is how large one commit may be, index entries included.
	MaxCommitBytes = 100 << 20
	// MaxKeyBytes is how large a row's or an index entry's key may be.
	MaxKeyBytes = 8 << 10
	// MaxStringRunes and MaxCellBytes are how long a value may be whose column has no length of its own.
	MaxStringRunes = 2_621_440
	MaxCellBytes   = 10 << 20
)

func (o TxnOptions) checkMutations(n int64) error {
	if n <= MaxMutations || o.NoLimits {
		return nil
	}
	return Errorf(codes.InvalidArgument, "The transaction contains too many mutations: %d of at most %d. An insert or update counts once for each column that it names, a delete once, and changes of indexes count too: write less in one transaction", n, MaxMutations)
}

func (o TxnOptions) checkSize(n int64) error {
	if n <= MaxCommitBytes || o.NoLimits {
		return nil
	}
	return Errorf(codes.InvalidArgument, "The transaction writes %d bytes, which exceeds the maximum commit size of %d: write less in one transaction", n, MaxCommitBytes)
}

// size is about how many bytes the row takes in a commit.
func (r Row) size() (n int64) {
	for i := range r {
		n += r[i].size()
	}
	return n
}

func (v *Value) size() int64 {
	n := int64(8 + len(v.Text))
	for i := range v.List {
		n += v.List[i].size()
	}
	return n
}

// keySize is how long the values of key parts are, without what their encoding adds.
func keySize(r Row, parts []KeyPart) (n int64) {
	for _, p := range parts {
		if v := &r[p.Column]; v.Text != "" {
			n += int64(len(v.Text))
		} else {
			n += 8
		}
	}
	return n
}

func checkKey(t *Table, r Row, k Key) error {
	if len(k) <= MaxKeyBytes {
		return nil
	}
	if n := keySize(r, t.Key); n > MaxKeyBytes {
		return Errorf(codes.InvalidArgument, "Number of bytes for key of table %s is %d which exceeds the maximum of %d.", t.QualifiedName(), n, MaxKeyBytes)
	}
	return nil
}

func checkIndexKey(x *Index, t *Table, r Row, k Key) error {
	if len(k) <= MaxKeyBytes {
		return nil
	}
	if n := keySize(r, x.Key); n > MaxKeyBytes {
		return Errorf(codes.InvalidArgument, "Number of bytes for key of index %s of table %s is %d which exceeds the maximum of %d.", x.QualifiedName(), t.QualifiedName(), n, MaxKeyBytes)
	}
	return nil
}
