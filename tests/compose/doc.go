// Package compose tests docker-compose.yaml: that every Compose from 1.29 on reads it, and that the wiring works.
//
// Where no container engine runs, the wiring is proven with the same programs as plain processes. The test reads the file
// and starts each service's own command, with its environment, its mounted files, its health check and in its order. A
// service's name becomes a loopback address of its own (127.x.y.z), so ports stay what they are in the file; that name is
// the only thing that is replaced, in commands, environments and mounted files alike, as a network's DNS would do.
//
// The package has tests only.
package compose
