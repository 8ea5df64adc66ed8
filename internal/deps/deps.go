// Package deps pins modules until the first package imports them.
package deps

import (
	_ "cel.dev/cel-go/cel"
	_ "cloud.google.com/go/bigquery"
	_ "cloud.google.com/go/bigquery/storage/managedwriter"
	_ "github.com/compose-spec/compose-go/v2/loader"
	_ "github.com/goccy/go-yaml"
	_ "github.com/prometheus/client_golang/prometheus"
	_ "github.com/prometheus/client_golang/prometheus/promhttp"
)
