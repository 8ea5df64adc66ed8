// Package deps pins modules until the first package imports them.
package deps

import (
	_ "cloud.google.com/go/pubsub/v2"
	_ "cloud.google.com/go/pubsub/v2/pstest"
	_ "cloud.google.com/go/spanner"
	_ "cloud.google.com/go/spanner/admin/database/apiv1"
	_ "cloud.google.com/go/spanner/admin/instance/apiv1"
	_ "cloud.google.com/go/spanner/apiv1"
	_ "cloud.google.com/go/storage"
	_ "github.com/cloudspannerecosystem/memefish"
	_ "github.com/fsouza/fake-gcs-server/fakestorage"
	_ "github.com/hamba/avro/v2"
	_ "github.com/itchyny/gojq"
	_ "github.com/klauspost/compress/flate"
	_ "github.com/linkedin/goavro/v2"
	_ "github.com/spf13/cobra"
	_ "go.uber.org/goleak"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/term"
	_ "github.com/google/btree"
	_ "pgregory.net/rapid"
)
