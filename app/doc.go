// Package app wires the rooms together: it turns configuration into clients, stores, readers, sinks and engines. The
// commands and the end-to-end tests use it; it decides nothing about order or delivery.
package app
