package changes

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/spanner/apiv1/spannerpb"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/spanledger/spanledger/emulator/spanner/store"
)

// Bounds of retention_period, and its value where it was never set.
const (
	MinRetention     = 24 * time.Hour
	MaxRetention     = 30 * 24 * time.Hour
	DefaultRetention = 7 * 24 * time.Hour
)

type captureType = spannerpb.ChangeStreamRecord_DataChangeRecord_ValueCaptureType

const (
	oldAndNewValues    = spannerpb.ChangeStreamRecord_DataChangeRecord_OLD_AND_NEW_VALUES
	newValues          = spannerpb.ChangeStreamRecord_DataChangeRecord_NEW_VALUES
	newRow             = spannerpb.ChangeStreamRecord_DataChangeRecord_NEW_ROW
	newRowAndOldValues = spannerpb.ChangeStreamRecord_DataChangeRecord_NEW_ROW_AND_OLD_VALUES
)

// options are a stream's options with the defaults filled in.
type options struct {
	retention         time.Duration
	capture           captureType
	excludeInsert     bool
	excludeUpdate     bool
	excludeDelete     bool
	excludeTTLDeletes bool
	allowTxnExclusion bool
	perPlacement      bool
	mutable           bool
}

// CheckOptions reports what is wrong with the options of a change stream's definition: INVALID_ARGUMENT for an unknown
// option, one given twice, or a boolean that is none; FAILED_PRECONDITION for values out of range.
func CheckOptions(def *store.ChangeStream) error {
	_, err := parseOptions(def)
	return err
}

func parseOptions(def *store.ChangeStream) (options, error) {
	o := options{retention: DefaultRetention, capture: oldAndNewValues}
	var seen []string
	for _, opt := range def.Options {
		if slices.Contains(seen, opt.Name) {
			return o, status.Errorf(codes.InvalidArgument, "change stream %s: option %s is given twice", def.Name, opt.Name)
		}
		seen = append(seen, opt.Name)
		isNull := strings.EqualFold(opt.Value, "null") // back to the default
		var err error
		switch opt.Name {
		case "retention_period":
			if !isNull {
				o.retention, err = parseRetention(opt.Value)
			}
		case "value_capture_type":
			if !isNull {
				n, ok := spannerpb.ChangeStreamRecord_DataChangeRecord_ValueCaptureType_value[opt.Value]
				if !ok || n == 0 {
					err = fmt.Errorf("want OLD_AND_NEW_VALUES, NEW_VALUES, NEW_ROW or NEW_ROW_AND_OLD_VALUES, got %q", opt.Value)
				}
				o.capture = captureType(n)
			}
		case "partition_mode":
			switch {
			case isNull || opt.Value == "IMMUTABLE_KEY_RANGE":
			case opt.Value == "MUTABLE_KEY_RANGE":
				o.mutable = true
			default:
				err = fmt.Errorf("want IMMUTABLE_KEY_RANGE or MUTABLE_KEY_RANGE, got %q", opt.Value)
			}
		default:
			flag := map[string]*bool{
				"exclude_insert": &o.excludeInsert, "exclude_update": &o.excludeUpdate, "exclude_delete": &o.excludeDelete,
				"exclude_ttl_deletes": &o.excludeTTLDeletes, "allow_txn_exclusion": &o.allowTxnExclusion,
				"per_placement_tvf": &o.perPlacement,
			}[opt.Name]
			if flag == nil {
				return o, status.Errorf(codes.InvalidArgument, "change stream %s: unknown option %s", def.Name, opt.Name)
			}
			switch {
			case isNull || strings.EqualFold(opt.Value, "false"):
			case strings.EqualFold(opt.Value, "true"):
				*flag = true
			default:
				return o, status.Errorf(codes.InvalidArgument, "change stream %s: option %s: want true or false, got %q", def.Name, opt.Name, opt.Value)
			}
		}
		if err != nil {
			return o, status.Errorf(codes.FailedPrecondition, "change stream %s: option %s: %v", def.Name, opt.Name, err)
		}
	}
	return o, nil
}

// parseRetention reads "<n>s", "<n>m", "<n>h" or "<n>d".
func parseRetention(text string) (time.Duration, error) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour}
	if len(text) < 2 {
		return 0, fmt.Errorf("want a number and one unit of s, m, h, d, such as 7d; got %q", text)
	}
	unit, ok := units[text[len(text)-1]]
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
	if !ok || err != nil {
		return 0, fmt.Errorf("want a number and one unit of s, m, h, d, such as 7d; got %q", text)
	}
	if n > uint64(MaxRetention/unit) || time.Duration(n)*unit < MinRetention {
		return 0, fmt.Errorf("want 1d to 30d, got %q", text)
	}
	return time.Duration(n) * unit, nil
}
