// Package server speaks Cloud Spanner's gRPC services (data, database admin, instance admin, operations) over package
// store, sql and changes. Sessions are cheap and may be multiplexed: many transactions live on one at once.
//
// Requests are hostile: every field is checked where it is used, and a request that breaks a rule answers Spanner's
// canonical code with the reason.
package server
