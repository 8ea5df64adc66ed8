// Package change holds the nouns that cross Spanledger's borders: a Change of one row, its Position in the one order, the
// Table and column types it was captured with, the Partition it was read from and the Frame that carries it from the
// reader to the engine. It imports the standard library only, and everything may import it.
//
// Values are raw JSON: the very bytes Spanner sent, never parsed into maps or trees. Encoders transcode them straight into
// their own form with the help of the Table's column types.
package change
