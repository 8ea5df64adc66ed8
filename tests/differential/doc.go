// Package differential plays random histories on the embedded Spanner and on Google's own emulator, and compares all that
// a client can see: the code of every answer, the rows DML returns and counts, every table read back, the catalogue's
// views, and the records of every change stream.
//
//	go test ./tests/differential                                  # 80 histories and all of testdata
//	go test ./tests/differential -histories 5000 -seed 7 -v -timeout 2h
//
// It skips, and says so, where Google's emulator is not installed; see package emulator/official.
//
// # What a history is
//
// A schema, then transactions and schema changes, one after another: each is over before the next begins, because the
// official emulator runs one transaction at a time. Commit timestamps, tokens and transaction ids differ between two
// servers; a commit timestamp is compared as the number of the step that committed it, the others are left out.
//
// # Reading a failure
//
// rapid has made the history small by the time it is printed. What differs comes first, ours above the official
// emulator's; the history follows in its text form. To keep it, put that text into a file testdata/NAME.history and run
//
//	go test ./tests/differential -run 'TestRegressions/NAME'
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
// compared as that deviation would have them.
//
// # Never drawn
//
// Three things take the official emulator (1.5.28) down and are left out of random histories: a NULL element in a watched
// ARRAY column (a failed check ends the process), a key range whose end lies before its start (the commit never
// returns), and UUID columns (a failed check). A process that dies for another reason is started anew, its history counted
// as "crash". Key ranges whose ends differ before their last part are refused by it, and stay out too.
package differential
