// Package ops holds what operates a running Spanledger: packages metrics and admin, and beside them the dashboard
// (grafana/), the scrape configuration, rules and their tests (prometheus/), and a page for each alert (runbooks/).
//
// The package itself has only tests. They hold the files against each other and against what is exposed, and run them: a
// real Prometheus scrapes a running `spanledger dev`, every panel must then show something, and every alert must fire.
package ops
