// Package gcssink is the sink that writes the archive on Cloud Storage: every change once, in order, in immutable Avro
// segments.
//
// Durable means: the object was created and its checksum confirmed. A segment's name follows from its chain and its first
// change, and it is created only if there is none of the name (I6): a retry, a lost answer or another worker can only find
// what is there, read how far it came and go on behind it. No object is ever overwritten or deleted, and none is temporary
// (I7), so the bucket may have a locked retention policy and the account needs no right to delete.
//
// Needed rights: storage.objects.create, .get and .list on the bucket, which roles/storage.objectCreator and
// roles/storage.objectViewer give together.
//
// What the engine stores of a chain between calls is the last segment's name and digest. The first Append of a chain looks
// for that segment: a sink that was pointed at another bucket or prefix stops there and begins no archive in mid-chain.
//
// The format is package archive's.
package gcssink
