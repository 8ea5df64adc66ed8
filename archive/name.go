package archive

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spanledger/spanledger/change"
	"github.com/spanledger/spanledger/change/avro"
)

const (
	manifestName   = "archive.json"
	segmentsFolder = "segments/"
	segmentSuffix  = ".avro"
)

// tablePath is a table's name as one path element.
func tablePath(table string) string {
	p := url.PathEscape(table)
	if strings.Trim(p, ".") == "" { // "." and "..": a directory's own names in the local form
		return strings.ReplaceAll(p, ".", "%2E")
	}
	return p
}

// ChainDigest is the first 16 hex digits of the chain's SHA-256: over its pipeline, incarnation, token and table, each
// string behind its length, so that no two chains are written alike.
func ChainDigest(c change.Chain) string {
	var b []byte
	for _, s := range [...]string{c.Pipeline, c.Token, c.Table} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(s)))
		b = append(b, s...)
	}
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(b, uint64(c.Incarnation)))
	return hex.EncodeToString(sum[:8])
}

// SegmentPrefix begins the names of a table's segments.
func SegmentPrefix(table string) string { return segmentsFolder + tablePath(table) + "/" }

// chainSuffix ends the names of a chain's segments.
func chainSuffix(c change.Chain) string { return "-" + ChainDigest(c) + segmentSuffix }

// maxPlace bounds the part of a name that tells the place: a file system allows 255 bytes for a path element, and some
// need room for a suffix. Snapshot rows with long keys are the only positions that come near.
const maxPlace = 180

// SegmentName is the one name a segment of the chain that begins at first can have. Names sort by their first positions,
// except between snapshot rows of one instant whose keys are very long. The error is about an impossible position.
func SegmentName(c change.Chain, first change.Position) (string, error) {
	place, err := first.AppendText(nil)
	if err != nil {
		return "", err
	}
	if len(place) > maxPlace {
		sum := sha256.Sum256(place)
		place = append(place[:maxPlace-33:maxPlace-33], '-')
		place = hex.AppendEncode(place, sum[:16])
	}
	return fmt.Sprintf("%s%s/%s%s", SegmentPrefix(c.Table), first.Commit.Time().Format("date=2006-01-02/hour=15"), place, chainSuffix(c)), nil
}

// hour numbers the hour of commit time, UTC, that a segment must not leave.
func hour(t change.Timestamp) int64 { return int64(t) / int64(time.Hour/time.Microsecond) }

// SchemaName is where the schema lies.
func SchemaName(s *avro.Schema) string {
	return "schemas/" + tablePath(s.Table().Name) + "/" + s.Fingerprint() + ".avsc"
}

// DDLName is where the database's schema as first seen at t lies.
func DDLName(t change.Timestamp) string {
	return ddlFolder + t.Time().Format("20060102T150405.000000Z") + ".sql"
}
