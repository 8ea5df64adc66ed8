// Package pubsub is the embedded Pub/Sub: Google's in-process fake, package pstest, behind a server of our own.
//
// The server in front gives what the fake alone lacks. It takes requests as large as the real service does (the fake's own
// listener stops at gRPC's 4 MiB). It refuses what the real service refuses and the fake accepts: empty messages, more
// than 1,000 messages or 10,000,000 bytes in a request, different ordering keys in one request, overlong keys and
// attributes. It answers UNIMPLEMENTED or INVALID_ARGUMENT where the fake would panic and take the process with it. And it
// has hooks for faults, before a call's effect and after it, outside the fake's lock, so that a slow call is slow alone.
//
// What stays as the fake has it: no schema checks, no snapshots, dead-lettered messages are copied too often, and ordered
// delivery is slow (about ten messages a second and key), so tests of order read Messages. Everything published is kept in
// memory until Clear.
package pubsub
