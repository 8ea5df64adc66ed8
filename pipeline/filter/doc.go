// Package filter decides which changes a pipeline delivers, and which of their columns: by table, operation, transaction
// tag, system transactions and an expression in the Common Expression Language (CEL), and by a list of columns to drop.
//
// The engine applies a Filter to each frame before any sink sees it. A frame keeps its promises: its watermark, its
// children and its end stay as they are, only changes leave it (I5). What was filtered counts as delivered.
//
// # Expressions
//
// An expression is checked when it is compiled and must be a bool. It sees one change:
//
//	table             string     the table's name, qualified with its named schema: "orders", "sales.orders"
//	op                string     "INSERT", "UPDATE" or "DELETE"
//	key               map        the primary key's columns
//	after, before     map        the captured columns outside the key, after and before the change
//	captured          list       the names of the columns outside the key that after or before holds
//	tag               string     the transaction tag, or ""
//	system            bool       whether Spanner itself wrote it, such as a TTL delete
//	commit_timestamp  timestamp  when it was committed
//
// Values are CEL's own: INT64 and ENUM int, FLOAT64 and FLOAT32 double, BOOL bool, TIMESTAMP timestamp, BYTES and PROTO
// bytes, ARRAY list, JSON what the document holds (numbers as double), NULL null, all else string, NUMERIC and DATE among
// them: double(after.price) > 9.5 compares a NUMERIC. A column that was not captured is absent, which
// has(after.price) tells: using one that is absent is an error, and an error stops the pipeline, for a change must never
// be lost to a mistake in an expression.
//
// The package imports package change and CEL only.
package filter
