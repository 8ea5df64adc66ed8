package app

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spanledger/spanledger/emulator/spanner"
	"github.com/spanledger/spanledger/emulator/spanner/changes"
	"github.com/spanledger/spanledger/emulator/spanner/fault"
)

// EmulatorOptions are the options of `spanledger emulator`.
type EmulatorOptions struct {
	Listen Listen
	// Partitions is how many partitions a new change stream begins with, 1 to 10,000; 0 means 1.
	Partitions int
	// Churn splits, merges and moves a change stream's partitions by turns, one each so often; 0 leaves them alone.
	Churn time.Duration
	// Faults is a plan of what goes wrong in Spanner; see package fault.
	Faults fault.Plan
	// DataDir keeps what the services keep in files, under DataDir/storage; "" keeps everything in memory.
	DataDir string
	// While is called once, when every service accepts connections; they do until it returns. Its context ends with Emulator's.
	While func(context.Context, Endpoints) error
	// Warn is called for each address that other machines may reach: the services ask nobody who they are.
	Warn func(service, address string)
}

// Emulator serves the embedded Google Cloud for as long as o.While runs, and returns its error.
func Emulator(ctx context.Context, o EmulatorOptions) (err error) {
	for _, l := range []struct{ service, address string }{
		{"Spanner", o.Listen.Spanner}, {"Pub/Sub", o.Listen.PubSub}, {"Cloud Storage", o.Listen.Storage},
		{"BigQuery", o.Listen.BigQuery}, {"BigQuery's Storage API", o.Listen.BigQueryStorage},
	} {
		if l.address == "" || l.address == Off {
			continue
		}
		host, _, err := net.SplitHostPort(l.address)
		if err != nil {
			return fmt.Errorf("%s: address %q: want host:port, such as 127.0.0.1:9010, or %s: %w", l.service, l.address, Off, err)
		}
		if host != "" && !isLoopback(host) && o.Warn != nil {
			o.Warn(l.service, l.address)
		}
	}
	storageDir := ""
	if o.DataDir != "" && o.Listen.Storage != Off {
		abs, err := filepath.Abs(o.DataDir)
		if err != nil {
			return fmt.Errorf("--data-dir %s: %w", o.DataDir, err)
		}
		storageDir = filepath.Join(abs, "storage")
		if err := os.MkdirAll(storageDir, 0o755); err != nil {
			return fmt.Errorf("--data-dir %s: %w: choose a directory that can be written", o.DataDir, err)
		}
		lock, err := os.OpenFile(filepath.Join(abs, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
		if err != nil {
			return fmt.Errorf("--data-dir %s: %w: choose a directory that can be written", o.DataDir, err)
		}
		defer lock.Close()
		if err := lockFile(lock); err != nil {
			return fmt.Errorf("--data-dir %s: another process uses it (%w): wait for its end, or choose another directory", o.DataDir, err)
		}
	}
	cloud, err := StartCloud(ctx, CloudOptions{
		StorageDir: storageDir, Listen: o.Listen,
		Spanner: spanner.Options{Partitions: o.Partitions, Churn: changes.Churn{Interval: o.Churn}, Faults: o.Faults},
	})
	if err != nil {
		return fmt.Errorf("%w: is the port taken? every service's address can be chosen, and \"%s\" leaves it out", err, Off)
	}
	defer func() {
		if cerr := cloud.Close(); err == nil {
			err = cerr
		}
	}()
	return o.While(ctx, cloud.Endpoints)
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
