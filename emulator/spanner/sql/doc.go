// Package sql is the embedded Spanner's GoogleSQL front: it turns the parser's tree into schema changes, queries and
// DML over package store. It knows neither gRPC nor change-stream logs; a change-stream query is recognised, checked and
// handed back as a typed request.
//
// The subset is the one the project and its users' set-up code need. Whatever lies outside answers UNIMPLEMENTED and
// names the construct; nothing is silently ignored.
package sql
