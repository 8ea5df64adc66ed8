package changes

import (
	"strconv"
	"time"
)

// jsonRow is the record as PostgreSQL's JSONB object.
func (d *dataRecord) jsonRow() []byte {
	c, t := d.txn.commit, d.view.table
	b := make([]byte, 0, 512+256*len(d.mods))
	b = append(b, `{"data_change_record":{"commit_timestamp":`...)
	b = appendTime(b, micros(c.Timestamp))
	b = appendString(append(b, `,"record_sequence":`...), sequenceText(d.sequence))
	b = appendString(append(b, `,"server_transaction_id":`...), c.TransactionID)
	b = strconv.AppendBool(append(b, `,"is_last_record_in_transaction_in_partition":`...), d.last)
	b = appendString(append(b, `,"table_name":`...), d.view.name)
	b = append(b, `,"column_types":[`...)
	for n, i := range d.metadata() {
		if n > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"name":`...), t.Columns[i].Name)
		b = append(append(b, `,"type":`...), d.view.columns[i].typeJSON...)
		b = strconv.AppendBool(append(b, `,"is_primary_key":`...), t.IsKey(i))
		b = strconv.AppendInt(append(b, `,"ordinal_position":`...), int64(i+1), 10)
		b = append(b, '}')
	}
	b = append(b, `],"mods":[`...)
	for n, ch := range d.mods {
		if n > 0 {
			b = append(b, ',')
		}
		newCols, oldCols := d.values(ch)
		b = d.view.appendObject(append(b, `{"keys":`...), d.view.keys, keyRow(ch))
		b = d.view.appendObject(append(b, `,"new_values":`...), newCols, ch.New)
		b = d.view.appendObject(append(b, `,"old_values":`...), oldCols, ch.Old)
		b = append(b, '}')
	}
	b = appendString(append(b, `],"mod_type":`...), modType(d.op))
	b = appendString(append(b, `,"value_capture_type":`...), d.txn.capture.String())
	b = strconv.AppendInt(append(b, `,"number_of_records_in_transaction":`...), int64(d.txn.records), 10)
	b = strconv.AppendInt(append(b, `,"number_of_partitions_in_transaction":`...), int64(d.txn.partitions), 10)
	b = appendString(append(b, `,"transaction_tag":`...), c.Tag)
	b = strconv.AppendBool(append(b, `,"is_system_transaction":`...), c.System)
	return append(b, "}}"...)
}

func jsonHeartbeat(t time.Time) []byte {
	return append(appendTime([]byte(`{"heartbeat_record":{"timestamp":`), t), "}}"...)
}

func jsonChild(start time.Time, sequence int, token string, parents []string) []byte {
	b := appendTime([]byte(`{"child_partitions_record":{"start_timestamp":`), start)
	b = appendString(append(b, `,"record_sequence":`...), sequenceText(sequence))
	b = appendString(append(b, `,"child_partitions":[{"token":`...), token)
	b = append(b, `,"parent_partition_tokens":[`...)
	for i, p := range parents {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, p)
	}
	return append(b, "]}]}}"...)
}

func appendTime(b []byte, t time.Time) []byte {
	return append(t.UTC().AppendFormat(append(b, '"'), time.RFC3339Nano), '"')
}
