// Package avro writes and reads changes as Avro: one typed record schema per schema union of a table, the record bytes, the
// object container framing of archive segments and messages, and the single-object form.
//
// SchemaOf makes the schema of a change.Table; Schema.Append transcodes a change's raw JSON values straight into Avro,
// without maps or reflection; AppendOCF and AppendSingle frame them. Reader and Schema.Decode turn bytes back into changes.
//
// # Guarantee
//
// Nothing is lost and nothing is refused because of a value: what a typed field cannot hold (a timestamp finer than a
// microsecond, text that is no number) stands in the record's raw field as the JSON text Spanner sent, and the raw field
// wins over the typed one. "Not captured" is never shown as NULL: the columns and before_columns fields name what was
// captured.
//
// Equal changes give equal bytes (I9), so everything derived from them can be compared by digest.
//
// The record is described in schema.go. The package imports package change and compressors only.
package avro
