// Package store is the embedded Spanner's storage: rows in many versions by commit timestamp, schemas in many versions,
// and one Commit. It knows neither gRPC nor SQL nor change streams; what it commits it hands to an observer.
package store
