package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/pipeline"
	"github.com/spanledger/spanledger/state"
)

const prefix = "spanledger_"

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prefix+name, help, labels, nil)
}

// What is exposed of a pipeline.
var (
	descPhase       = desc("pipeline_phase", "1 for the phase the pipeline is in: starting, running, draining or ended.", "pipeline", "phase")
	descRead        = desc("changes_read_total", "Changes read from the change stream.", "pipeline")
	descReadBytes   = desc("read_bytes_total", "Memory taken by the changes read.", "pipeline")
	descFiltered    = desc("changes_filtered_total", "Changes read that the pipeline's filter took out.", "pipeline")
	descFrames      = desc("frames_read_total", "Frames the reader handed over: with changes (data), or with news of the time only (heartbeat).", "pipeline", "kind")
	descRetries     = desc("reader_retries_total", "Change stream queries asked again after an error, by the error's class.", "pipeline", "code")
	descPartitions  = desc("partitions", "Partitions being read.", "pipeline")
	descEvents      = desc("partition_events_total", "Partitions begun (started), and read and durable in every sink (finished).", "pipeline", "event")
	descHeard       = desc("partition_oldest_progress_timestamp_seconds", "When the partition that has been silent longest last gave a sign of life.", "pipeline")
	descWatermark   = desc("pipeline_watermark_timestamp_seconds", "Everything committed until then is durable in every sink.", "pipeline")
	descRetention   = desc("stream_retention_seconds", "How long the change stream keeps its records.", "pipeline")
	descCheckpoints = desc("checkpoints_total", "Checkpoints stored.", "pipeline")
	descCheckErrors = desc("checkpoint_errors_total", "Tries to store a checkpoint that failed, by the error's class.", "pipeline", "code")
	descChecked     = desc("checkpoint_timestamp_seconds", "When the stored checkpoints were last up to date.", "pipeline")
	descUsed        = desc("budget_used_bytes", "Bytes of changes read and not durable in every sink.", "pipeline")
	descLimit       = desc("budget_limit_bytes", "Bound of spanledger_budget_used_bytes.", "pipeline")
	// Snapshots, of tables beside the stream.
	descSnapshots    = desc("snapshots", "Snapshots of tables by state: waiting, running or failed (since the process began).", "pipeline", "state")
	descSnapshotRows = desc("snapshot_rows_total", "Rows of snapshots handed to the sinks (delivered), or left out because a newer change was on its way (superseded).", "pipeline", "fate")
	descWaiting      = desc("budget_waiting_partitions", "Partitions whose reading waits for the budget.", "pipeline")
)

// What is exposed of a sink.
var (
	descDelivered    = desc("changes_delivered_total", "Changes made durable in the sink.", "pipeline", "sink")
	descBatches      = desc("batches_delivered_total", "Batches made durable in the sink.", "pipeline", "sink")
	descBytes        = desc("delivered_bytes_total", "Memory taken by the changes made durable in the sink.", "pipeline", "sink")
	descErrors       = desc("sink_errors_total", "Calls to the sink that failed, by the error's class.", "pipeline", "sink", "code")
	descFailing      = desc("sink_failing", "1 while an error of the sink is being retried.", "pipeline", "sink")
	descSinkMark     = desc("sink_watermark_timestamp_seconds", "Everything committed until then is durable in the sink.", "pipeline", "sink")
	descSegments     = desc("segments_written_total", "Archive objects written; 0 for a sink that writes none.", "pipeline", "sink")
	descSegmentBytes = desc("segment_bytes_total", "Size of the archive objects written.", "pipeline", "sink")
	descLastSegment  = desc("last_segment_timestamp_seconds", "When the newest archive object was written.", "pipeline", "sink")
	descDurable      = desc("commit_to_durable_seconds", "Age of a change, since its commit, when the sink held it.", "pipeline", "sink")
	descDelivery     = desc("delivery_seconds", "Time from sending a batch to the sink until it held it, with all tries.", "pipeline", "sink")
	descBatch        = desc("batch_changes", "Changes in a batch.", "pipeline", "sink")
)

// collector shows the pipelines at each scrape.
type collector struct{ metrics *Metrics }

// Describe names everything: what could clash is found at registration.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		descPhase, descRead, descReadBytes, descFiltered, descFrames, descRetries, descPartitions, descEvents, descHeard, descWatermark, descRetention,
		descCheckpoints, descCheckErrors, descChecked, descUsed, descLimit, descWaiting,
		descDelivered, descBatches, descBytes, descErrors, descFailing, descSinkMark, descSegments, descSegmentBytes, descLastSegment,
		descDurable, descDelivery, descBatch, descSnapshots, descSnapshotRows,
	} {
		ch <- d
	}
}

func (c *collector) Collect(ch chan<- prometheus.Metric) {
	for _, p := range c.metrics.all() {
		if e := p.engine.Load(); e != nil {
			out := exposition{ch}
			out.pipeline(p, (*e).Status())
		}
	}
}

// exposition writes one scrape.
type exposition struct{ ch chan<- prometheus.Metric }

func (o exposition) counter(d *prometheus.Desc, v int64, labels ...string) {
	o.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func (o exposition) gauge(d *prometheus.Desc, v float64, labels ...string) {
	o.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// instant shows a time; one that is not known yet is left out, since 0 would look like an age of half a century.
func (o exposition) instant(d *prometheus.Desc, t time.Time, labels ...string) {
	if !t.IsZero() {
		o.gauge(d, float64(t.UnixMicro())/1e6, labels...)
	}
}

func (o exposition) watermark(d *prometheus.Desc, t change.Timestamp, labels ...string) {
	if t > 0 {
		o.gauge(d, float64(t)/1e6, labels...)
	}
}

func (o exposition) codes(d *prometheus.Desc, c *errorCounts, labels ...string) {
	for i := range c.n {
		if i > 0 { // no error is ok
			o.counter(d, c.n[i].Load(), append(labels[:len(labels):len(labels)], classes[i])...)
		}
	}
}

func (o exposition) histogram(d *prometheus.Desc, h *histogram, labels ...string) {
	count, sum, buckets := h.read()
	o.ch <- prometheus.MustNewConstHistogram(d, count, sum, buckets, labels...)
}

func (o exposition) pipeline(p *Pipeline, s pipeline.Status) {
	for phase := pipeline.Starting; phase <= pipeline.Ended; phase++ {
		o.gauge(descPhase, bit(s.Phase == phase), p.name, phase.String())
	}
	o.counter(descRead, s.Read, p.name)
	o.counter(descReadBytes, s.ReadBytes, p.name)
	o.counter(descFiltered, s.Filtered, p.name)
	o.counter(descFrames, s.Frames, p.name, "data")
	o.counter(descFrames, s.Heartbeats, p.name, "heartbeat")
	o.codes(descRetries, p.readerRetries, p.name)
	o.gauge(descPartitions, float64(s.Partitions), p.name)
	o.counter(descEvents, s.Started, p.name, "started")
	o.counter(descEvents, s.Finished, p.name, "finished")
	o.instant(descHeard, s.Heard, p.name)
	o.watermark(descWatermark, s.Watermark, p.name)
	if seconds := p.retention.Load(); seconds > 0 {
		o.gauge(descRetention, float64(seconds), p.name)
	}
	o.counter(descCheckpoints, s.Checkpoints, p.name)
	o.codes(descCheckErrors, p.checkpointErrors, p.name)
	o.instant(descChecked, s.Checkpointed, p.name)
	o.gauge(descUsed, float64(s.BudgetUsed), p.name)
	o.gauge(descLimit, float64(s.BudgetBytes), p.name)
	o.gauge(descWaiting, float64(s.BudgetWaiting), p.name)
	for _, k := range s.Sinks {
		o.sink(p, k)
	}
	states := map[state.SnapshotState]float64{state.SnapshotWaiting: 0, state.SnapshotRunning: 0, state.SnapshotFailed: 0}
	for i := range s.Snapshots {
		if _, ok := states[s.Snapshots[i].State]; ok {
			states[s.Snapshots[i].State]++
		}
	}
	for name, n := range states {
		o.gauge(descSnapshots, n, p.name, string(name))
	}
	o.counter(descSnapshotRows, s.SnapshotRows, p.name, "delivered")
	o.counter(descSnapshotRows, s.SnapshotDropped, p.name, "superseded")
}

func (o exposition) sink(p *Pipeline, k pipeline.SinkStatus) {
	own := p.sink(k.Name)
	o.counter(descDelivered, k.Delivered, p.name, k.Name)
	o.counter(descBatches, k.Batches, p.name, k.Name)
	o.counter(descBytes, own.bytes.Load(), p.name, k.Name)
	o.codes(descErrors, own.errors, p.name, k.Name)
	o.gauge(descFailing, bit(k.Failure != nil), p.name, k.Name)
	o.watermark(descSinkMark, k.Watermark, p.name, k.Name)
	o.counter(descSegments, k.Segments, p.name, k.Name)
	o.counter(descSegmentBytes, k.SegmentBytes, p.name, k.Name)
	o.instant(descLastSegment, k.LastSegment, p.name, k.Name)
	o.histogram(descDurable, own.commitToDurable, p.name, k.Name)
	o.histogram(descDelivery, own.delivery, p.name, k.Name)
	o.histogram(descBatch, own.batch, p.name, k.Name)
}

func bit(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
