package changestream

import (
	"strconv"
	"time"

	sppb "cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/spanledger/spanledger/change"
)

// dialect is the database's SQL dialect.
type dialect uint8

const (
	googleSQL dialect = iota
	postgreSQL
)

func (d dialect) String() string {
	if d == postgreSQL {
		return "PostgreSQL"
	}
	return "GoogleSQL"
}

func strongRead() *sppb.TransactionSelector {
	return &sppb.TransactionSelector{Selector: &sppb.TransactionSelector_SingleUse{SingleUse: &sppb.TransactionOptions{
		Mode: &sppb.TransactionOptions_ReadOnly_{ReadOnly: &sppb.TransactionOptions_ReadOnly{
			TimestampBound: &sppb.TransactionOptions_ReadOnly_Strong{Strong: true},
		}},
	}}}
}

// functionPrefix is what the names of read functions begin with.
func (d dialect) functionPrefix(mutable bool) string {
	switch {
	case d == googleSQL:
		return "READ_"
	case mutable:
		return "read_proto_bytes_"
	}
	return "read_json_"
}

// readStream makes the request that reads a partition from start through end (0: without an end), or with the token "" the
// initial query's. function is the read function's name behind its prefix.
func (d dialect) readStream(function string, mutable bool, start, end change.Timestamp, token string, heartbeat time.Duration) *sppb.ExecuteSqlRequest {
	req := &sppb.ExecuteSqlRequest{Transaction: strongRead()}
	names := [4]string{"start", "end", "token", "heartbeat"}
	function = d.functionPrefix(mutable) + function
	if d == postgreSQL {
		names = [4]string{"p1", "p2", "p3", "p4"}
		req.Sql = `SELECT * FROM "spanner"."` + function + `"($1, $2, $3, $4, NULL)`
	} else {
		req.Sql = "SELECT ChangeRecord FROM " + function +
			"(start_timestamp => @start, end_timestamp => @end, partition_token => @token, heartbeat_milliseconds => @heartbeat)"
	}
	endValue, tokenValue := structpb.NewNullValue(), structpb.NewNullValue()
	if end != 0 {
		endValue = structpb.NewStringValue(end.String())
	}
	if token != "" { // NULL asks for the partitions; the empty string would not
		tokenValue = structpb.NewStringValue(token)
	}
	req.Params = &structpb.Struct{Fields: map[string]*structpb.Value{
		names[0]: structpb.NewStringValue(start.String()),
		names[1]: endValue,
		names[2]: tokenValue,
		names[3]: structpb.NewStringValue(strconv.FormatInt(heartbeat.Milliseconds(), 10)),
	}}
	req.ParamTypes = map[string]*sppb.Type{
		names[0]: {Code: sppb.TypeCode_TIMESTAMP},
		names[1]: {Code: sppb.TypeCode_TIMESTAMP},
		names[2]: {Code: sppb.TypeCode_STRING},
		names[3]: {Code: sppb.TypeCode_INT64},
	}
	return req
}
