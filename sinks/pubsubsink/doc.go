// Package pubsubsink publishes changes to a Cloud Pub/Sub topic, one message a change, at least once and in order for each
// row. A batch is durable when the service has answered with the id of every message in it.
//
// # Order
//
// A message's ordering key is a function of its row's key alone, so all changes of a row carry the same one, and the
// engine keeps a row in one lane, so they are published strictly one request after another. Two lanes may publish under the
// same ordering key at the same time: their rows are different ones, and between rows there is no order to keep. When a
// request fails, no later request of its ordering key is sent; the engine then repeats the batch, so a repeat may run behind
// first deliveries but never a first delivery behind a later one (I1). Subscribers get the order if their subscription has
// message ordering enabled and all workers publish in one region: set endpoint to a regional one when they run in several.
//
// # Why not the client library's publisher
//
// It bundles per ordering key and awaits one bundle before the next, keeps per message a result, a channel and a context
// (5 to 10 µs and 24 allocations), retries on its own for a minute, and pauses an ordering key after a failure until
// somebody resumes it, which with several lanes on one key is a race over whose failure was resumed. The engine already
// batches, retries and waits. So this sink sends plain Publish requests, one attempt each: there is no paused state at all.
// Messages are written in wire form straight into the request, without a message object or an attribute map.
//
// # Messages
//
// The data is the change in the chosen format: "avro-ocf" is an Avro object container of one record with its schema
// inside, which any Avro tool reads; "json" is the object described in package plainjson. Attributes, for filters:
//
//	table             shop.stock
//	op                INSERT, UPDATE, DELETE, UNKNOWN
//	commit_timestamp  2026-01-02T03:04:05.123456Z
//	position          the change's id; sorts as the one order does
//	transaction       server transaction id
//	tag               transaction tag, if there is one
//	format            avro-ocf, json
//	schema            fingerprint of the table's Avro schema
//
// An attribute longer than the service's 1,024 bytes is left out; the data has it all. A change whose message is larger
// than a request may be, 10,000,000 bytes, is rejected.
package pubsubsink
