// Package cli is the command line: it parses, calls package app, and prints; it decides nothing else.
//
// It is a package, and not all of cmd/spanledger, so that whoever writes a sink gets every command with it:
//
//	func main() { cli.Main(mysink.Type) }
//
// is a whole program, in which configuration and `dev --sink` know the new sink beside the built-in ones.
// examples/customsink is such a program, in a module of its own.
package cli
