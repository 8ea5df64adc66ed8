// Package e2e holds the tests that span rooms: the whole system in processes of their own, loaded, killed and started
// again, and checked by package check.
package e2e
