package compose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"cloud.google.com/go/pubsub/v2"
	"cloud.google.com/go/pubsub/v2/apiv1/pubsubpb"
	"cloud.google.com/go/spanner"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/spanledger/spanledger/app"
)

// resources are what the mounted configuration names.
var resources = app.Resources{
	Database:      "projects/spanledger/instances/local/databases/ledger",
	StateDatabase: "projects/spanledger/instances/local/databases/spanledger",
	Stream:        "changes",
	Project:       "spanledger",
	Topic:         "changes",
	Subscription:  "check",
	Bucket:        "archive",
	Dataset:       "ledger",
}

// theSinks are those of the mounted configuration.
var theSinks = map[string]bool{"pubsub": true, "archive": true, "bigquery": true}

// prove waits until Prometheus says that every sink has every event, asks it for more, stops the pipeline, and reads every
// sink back.
func prove(t *testing.T, ctx context.Context, cloud app.Endpoints, prometheus string, began time.Time, stop func() error) {
	t.Helper()
	events := single[int64](t, ctx, cloud.Spanner, "SELECT COUNT(*) FROM events")
	if events < 1700 {
		t.Fatalf("the events table has %d rows", events)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(500 * time.Millisecond) {
		delivered, err := query(ctx, prometheus, `sum by (sink) (spanledger_changes_delivered_total{job="spanledger"})`)
		done := err == nil && len(delivered) == len(theSinks)
		for sink, n := range delivered {
			done = done && theSinks[sink] && n >= float64(events)
		}
		if done {
			t.Logf("delivered, as Prometheus has it: %v", delivered)
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("Prometheus has %v (%v), want %d for each of %v", delivered, err, events, theSinks)
		}
	}
	checkPrometheus(t, ctx, prometheus)

	end := spannerNow(t, ctx, cloud.Spanner)
	if err := stop(); err != nil {
		t.Errorf("run did not end cleanly: %v", err)
	}
	report, err := cloud.Check(ctx, app.CheckOptions{Resources: resources, Prefix: "ledger", Start: began, End: end, Official: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := report.Err(); err != nil {
		t.Error(err)
	}
	for name := range theSinks {
		sink := report.Sinks[name]
		if sink == nil {
			t.Errorf("nothing was read back of the sink %s", name)
			continue
		}
		t.Logf("%-8s delivered %d, missing %d, duplicates %d, out of order %d", name, sink.Delivered, sink.Missing, sink.Duplicates, sink.OrderViolations)
		if sink.Delivered != events {
			t.Errorf("%s holds %d of %d events", name, sink.Delivered, events)
		}
	}
}

// checkPrometheus asks whether Prometheus sees what it is configured to see.
func checkPrometheus(t *testing.T, ctx context.Context, base string) {
	t.Helper()
	var targets struct {
		ActiveTargets []struct {
			ScrapeURL, Health, LastError string
			Labels                       map[string]string
		}
	}
	if err := ask(ctx, base+"/api/v1/targets", &targets); err != nil {
		t.Fatal(err)
	}
	if len(targets.ActiveTargets) == 0 {
		t.Error("Prometheus has no targets")
	}
	for _, target := range targets.ActiveTargets {
		if target.Health != "up" || target.Labels["job"] != "spanledger" {
			t.Errorf("target %+v", target)
		}
	}
	var rules struct {
		Groups []struct {
			Name  string
			Rules []struct{ Name, Type, Health, LastError string }
		}
	}
	if err := ask(ctx, base+"/api/v1/rules", &rules); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, group := range rules.Groups {
		for _, rule := range group.Rules {
			kinds[rule.Type]++
			if rule.Health == "err" {
				t.Errorf("rule %s: %s", rule.Name, rule.LastError)
			}
		}
	}
	t.Logf("rules: %v", kinds)
	if kinds["alerting"] == 0 || kinds["recording"] == 0 {
		t.Errorf("rules %v: the rules file was not read", kinds)
	}
	firing, err := query(ctx, base, `count by (alertname) (ALERTS{alertstate="firing"})`)
	if err != nil || len(firing) > 0 {
		t.Errorf("alerts fire: %v, %v", firing, err)
	}
}

// query is an instant query whose result has one label; it gives the value of each of its values.
func query(ctx context.Context, base, expr string) (map[string]float64, error) {
	var answer struct {
		Result []struct {
			Metric map[string]string
			Value  [2]any
		}
	}
	if err := ask(ctx, base+"/api/v1/query?query="+url.QueryEscape(expr), &answer); err != nil {
		return nil, err
	}
	values := map[string]float64{}
	for _, r := range answer.Result {
		if len(r.Metric) != 1 {
			return nil, fmt.Errorf("%s: the labels are %v", expr, r.Metric)
		}
		text, _ := r.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", expr, err)
		}
		for _, label := range r.Metric {
			values[label] = v
		}
	}
	return values, nil
}

// ask decodes the data of an answer of Prometheus.
func ask(ctx context.Context, address string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer := struct {
		Status, Error string
		Data          any
	}{Data: into}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %s: %w", address, res.Status, err)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s: %w", address, res.Status, errors.New(answer.Error))
	}
	return nil
}

func plaintext(address string) []option.ClientOption {
	return []option.ClientOption{
		option.WithEndpoint(address), option.WithoutAuthentication(),
		option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())),
	}
}

// single asks the events database one question with one answer.
func single[T any](t *testing.T, ctx context.Context, address, sql string) (value T) {
	t.Helper()
	c, err := spanner.NewClientWithConfig(ctx, resources.Database, spanner.ClientConfig{DisableNativeMetrics: true}, plaintext(address)...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.Single().Query(ctx, spanner.NewStatement(sql)).Do(func(r *spanner.Row) error { return r.Columns(&value) })
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func spannerNow(t *testing.T, ctx context.Context, address string) time.Time {
	t.Helper()
	return single[time.Time](t, ctx, address, "SELECT CURRENT_TIMESTAMP()")
}

func subscribe(t *testing.T, ctx context.Context, address string) {
	t.Helper()
	c, err := pubsub.NewClient(ctx, resources.Project, plaintext(address)...)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.SubscriptionAdminClient.CreateSubscription(ctx, &pubsubpb.Subscription{
		Name:  "projects/" + resources.Project + "/subscriptions/" + resources.Subscription,
		Topic: "projects/" + resources.Project + "/topics/" + resources.Topic, AckDeadlineSeconds: 60,
	})
	if err != nil {
		t.Fatal(err)
	}
}
