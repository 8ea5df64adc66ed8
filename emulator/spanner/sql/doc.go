// Package sql is the embedded Spanner's SQL front: it turns the parser's tree into schema changes, queries and DML over
// package store. It knows neither gRPC nor change-stream logs; a change-stream query is recognised, checked and handed
// back as a typed request.
//
// What is not built answers UNIMPLEMENTED and names the construct, wrong SQL answers INVALID_ARGUMENT; nothing is silently
// ignored. What is built is held against Google's emulator, statement by statement, by the files testdata/*.judged of
// package spanner, which also list every known difference with its reason.
//
// # Schema
//
// Tables with all column types but TOKENLIST; proto bundles; defaults, generated columns (those without STORED are kept like
// the others), identity columns, sequences; interleaving; indexes; CHECK and FOREIGN KEY constraints, both enforced, with ON
// DELETE CASCADE (see package store); views; named schemas; row deletion policies, which are declarations only: the test that
// wants rows to expire deletes them. Database roles and what they are
// granted, on tables, columns, views, change streams, read functions, sequences and named schemas. Not built: search and vector indexes, models, property graphs,
// synonyms, CREATE FUNCTION.
//
// Messages are kept as the bytes they come as; they are parsed where SQL looks into them, and then bytes that are no message
// are OUT_OF_RANGE. The types of a bundle that ALTER PROTO BUNDLE does not name keep their definitions, as far as one file
// of descriptors can hold old and new ones beside each other: the unit is the top-level message or enum.
//
// # Queries
//
// SELECT with everything but window functions, recursive WITH, GROUP BY ROLLUP, pipe syntax, lambdas and graph queries;
// hints are checked by name and steer nothing but FORCE_INDEX. Conditions on a prefix of a key or index become point reads
// and range scans; everything else is a scan, joins are nested loops. DML with THEN RETURN; not ON CONFLICT. INTERVAL has
// values and arithmetic; behind the word INTERVAL itself stand a number, a string or a parameter, but no other expression.
//
// # PostgreSQL
//
// The dialect's DDL is read by a small parser of our own and translated into the same schema. Queries and DML are
// translated token by token where both dialects mean the same; casts with ::, operators that GoogleSQL lacks, and a list
// of words with another meaning are refused. NULLs sort last and integers divide to integers, as they do there. NUMERIC
// keeps GoogleSQL's 29 and 9 digits; identity columns, sequences and views have no PostgreSQL form here.
package sql
