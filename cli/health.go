package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// defaultHealth is what a pipeline's admin server answers on.
const defaultHealth = "http://127.0.0.1:9464/readyz"

func healthCommand() *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "health [URL...]",
		Short: "Ask running programs whether they are well",
		Long: `Health asks each URL and exits with 0 if all are well: an http or https URL must answer with a code from 200 to 299, a
tcp://HOST:PORT URL must accept a connection. Without a URL it asks the pipeline of this machine, at ` + defaultHealth + `.

It is the health check of the container image, which has no other program in it.`,
		Example: `  spanledger health
  spanledger health http://127.0.0.1:9464/healthz tcp://127.0.0.1:9060`,
		RunE: func(cmd *cobra.Command, targets []string) error {
			if len(targets) == 0 {
				targets = []string{defaultHealth}
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			var errs []error
			for _, t := range targets {
				errs = append(errs, askHealth(ctx, t))
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 4*time.Second, "how long all answers together may take")
	return cmd
}

// askHealth asks one target. The error holds the first of what an unwell server says of itself.
func askHealth(ctx context.Context, target string) error {
	u, err := url.Parse(target)
	if err != nil || u.Host == "" {
		return usage("health: %q: want http://HOST:PORT/PATH, https://… or tcp://HOST:PORT", target)
	}
	switch u.Scheme {
	case "tcp":
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
		if err != nil {
			return fmt.Errorf("health: %s: %w", target, err)
		}
		return conn.Close()
	case "http", "https":
	default:
		return usage("health: %q: the scheme must be http, https or tcp", target)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return usage("health: %w", err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("health: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode/100 == 2 {
		return nil
	}
	said, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	if err != nil {
		return fmt.Errorf("health: %s answers %s, and then: %w", target, res.Status, err)
	}
	return fmt.Errorf("health: %s answers %s: %s", target, res.Status, strings.TrimSpace(string(said)))
}
