// Package archive is the format of the archive: the names of its objects, its manifest, its segments and their chains.
//
//	archive.json                                            which database and stream this is
//	ddl/{first seen}.sql                                    the database's schema at the start and at each change
//	schemas/{table}/{fingerprint}.avsc                      the Avro schemas
//	segments/{table}/date=…/hour=…/{first}-{chain}.avro     the changes
//
// A segment is one immutable run of one chain: a partition's changes of one table in one incarnation. Its name follows from
// its place, the position of its first change, and it is created only if there is none (I6); nothing is ever written twice
// or deleted, so a locked retention policy may be on (I7). Each segment names the one before it by last position and
// digest, so a chain proves itself complete. Everything but where a run is cut follows from the changes (I9).
//
// What a segment says about itself stands in the object's metadata, where listings show it, and in the file's own header,
// so that a file without its metadata (a copy, a file system without attributes) still tells what it is.
//
// The package writes to a Bucket; package archive/gcs is Cloud Storage's, and NewMemory one for tests. It starts no
// goroutine. It is used by the Cloud Storage sink, by replay and restore, and by checks of the archive.
package archive
