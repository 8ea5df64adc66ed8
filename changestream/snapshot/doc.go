// Package snapshot reads the rows of the tables that a change stream watches, a chunk of a key range at a time, each chunk at
// one timestamp of its own, in the form that the stream would give them: the columns it captures, its names, its JSON.
//
// A chunk is read either at the present (a strong read, which tells its timestamp) or again at the timestamp of an earlier
// reading. Both answer the same rows for as long as the database keeps versions (version_retention_period, an hour by
// default); after that the second is ErrExpired. How chunks are put between the stream's changes is the engine's matter: the
// package pipeline says how. Nothing here depends on versions being kept between two chunks, so a table of any size is read
// under the default retention.
//
// Reads are single-use, so that they hold nothing, and of low priority. They are ordinary reads by primary key, which
// follow any key: composite, descending, with NULLs, interleaved. Data Boost serves partitioned reads only, whose
// partitions have no bound on their rows and must all be read at one timestamp: it cannot read a chunk.
package snapshot
