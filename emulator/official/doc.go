// Package official finds and runs Google's own Spanner and Pub/Sub emulators
// as plain processes, where they are installed.
//
// They are the judge of the embedded emulators: a test that runs the same
// history through both proves that ours behaves as Google's does. Nothing here
// is linked, downloaded or bundled. The programs come with the gcloud CLI
// (components cloud-spanner-emulator and pubsub-emulator) or with its Debian
// and RPM packages, and a machine without them gets [ErrNotInstalled], which
// says what to install; tests turn that into a loud skip with [SpannerForTest]
// and [PubSubForTest].
//
// What is guaranteed of a started [Process]:
//
//   - it listens on a loopback port only, and has answered a request before
//     the start function returns;
//   - it runs in a process group of its own, which Stop kills whole;
//   - on Linux it dies when this process dies, however that happens;
//   - what it printed last is part of every error about it.
//
// Both emulators keep everything in memory: a stopped one has forgotten all.
package official
