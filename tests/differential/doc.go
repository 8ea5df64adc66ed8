// Package differential plays random histories on the embedded Spanner and on Google's own emulator, and compares all that
// a client can see: the code of every answer, the rows DML returns and counts, every table read back, the catalogue's
// views, and the records of every change stream.
//
//	go test ./tests/differential                                  # 200 histories and all of testdata
//	go test ./tests/differential -histories 5000 -seed 7 -v -timeout 2h
//
// It skips, and says so, where Google's emulator is not installed; see package emulator/official. With -v a run says what it
// generated: histories by how far they were compared, changes by kind and capture type, requests by answer, deviations by how
// often they explained something. A run of 200 or more that compared too little to mean anything fails.
//
// # What a history is
//
// A schema, then transactions and schema changes, one after another: each is over before the next begins, because the
// official emulator runs one transaction at a time. Commit timestamps, tokens and transaction ids differ between two
// servers; a commit timestamp is compared as the number of the step that committed it, the others are left out.
//
// A history is drawn from its number, -seed and a running number; each pair of servers, one for each processor, plays the next.
//
// # Reading a failure
//
// The history has been made small by the time it is printed. What differs comes first, ours above the official emulator's; the
// history follows in its text form. -history with the number it gives runs it again. To keep it, put its text into a file
// testdata/NAME.history and run
//
//	go test ./tests/differential -run 'TestRegressions/all/NAME'
//
// Then decide who is right. The change-stream reference says what production does, with a mark for how sure that is; the
// official emulator's own conformance tests, which Google also runs on production, come next. If ours is wrong, mend it
// and keep the file. If the official emulator is wrong, add to deviations, with the reference; the file's first line then
// says which deviation it shows:
//
//	# deviates: fraction, placeholder
//
// A regression that does not show exactly the deviations it names fails, so the list cannot outlive the emulator it is
// about, and TestRegressions fails for a deviation that no file shows.
//
// # Deviations
//
// Each is tried only where the two differ, explains one thing, and is counted; the counts are in the test's log, and so are
// the deviations the run never met. A deviation cannot hide what it does not explain: values that a deviation changes are
// compared as that deviation would have them, and what one takes out of the records it must find in the history. TestSeen
// alters what one server sent, in some fifty ways, and wants each to be seen.
//
// # Never drawn
//
// Some things take the official emulator (1.5.28) down and are left out of random histories: a NULL element in a watched
// ARRAY column (a failed check ends the process), a key range whose end lies before its start (the commit never
// returns), and UUID columns (a failed check). A process that dies for another reason, such as a new watch list after a watched
// table has lost a column, is started anew, and its history counted as "crash".
//
// Others it gets wrong in ways that spoil all that follows. Testdata shows most of them: key ranges whose ends differ before
// their last part, or name the commit timestamp in a descending part; INSERT OR UPDATE of some columns only; INSERT OR IGNORE
// of a key with a pending commit timestamp; defaults beside a generated key column; defaults that are too long. A change between
// arrays of STRING and of BYTES it allows, and Spanner's documentation does not.
package differential
