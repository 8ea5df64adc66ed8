package store

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	api "google.golang.org/api/bigquery/v2"
)

// Reason says what kind of error an Error is.
type Reason int

// The reasons.
const (
	Invalid           Reason = iota + 1
	DatasetNotFound          // also when a table's dataset is missing
	TableNotFound            //
	StreamNotFound           //
	Duplicate                // it exists already
	EtagMismatch             // the resource has changed since it was read
	InUse                    // a dataset that still has tables
	OffsetExists             // rows were appended at this offset already
	OffsetBeyond             // the offset is past the stream's end
	StreamFinalized          //
	InvalidStreamType        // the default stream cannot do this
)

// Error is what the store answers when it refuses. Entity names the resource.
type Error struct {
	Reason  Reason
	Entity  string
	Message string
}

func (e *Error) Error() string { return e.Message }

func refuse(r Reason, entity, format string, args ...any) error {
	return &Error{Reason: r, Entity: entity, Message: fmt.Sprintf(format, args...)}
}

// Store is everything one embedded BigQuery holds. It is safe for concurrent use.
type Store struct {
	now func() time.Time

	mu       sync.RWMutex // protects everything below
	version  int64        // counts changes of metadata; each etag is one of them
	datasets map[datasetID]*dataset
}

type datasetID struct{ project, dataset string }

func (id datasetID) String() string { return id.project + ":" + id.dataset }

type dataset struct {
	meta   *api.Dataset // never changed in place
	tables map[string]*table
}

// New makes an empty store; now is its clock.
func New(now func() time.Time) *Store {
	return &Store{now: now, datasets: make(map[datasetID]*dataset)}
}

// etag makes a new etag. The lock is held.
func (s *Store) etag() string {
	s.version++
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "v%d", s.version))
}

func (s *Store) find(id datasetID) (*dataset, error) {
	d := s.datasets[id]
	if d == nil {
		return nil, refuse(DatasetNotFound, id.String(), "Not found: Dataset %s", id)
	}
	return d, nil
}

// InsertDataset creates a dataset.
func (s *Store) InsertDataset(project string, in *api.Dataset) (*api.Dataset, error) {
	if in.DatasetReference == nil {
		return nil, refuse(Invalid, project, "Required parameter is missing: datasetReference")
	}
	id := datasetID{project, in.DatasetReference.DatasetId}
	if p := in.DatasetReference.ProjectId; p != "" && p != project {
		return nil, refuse(Invalid, project, "Value for projectId in content (%s) does not agree with value in request (%s)", p, project)
	}
	if err := checkID("dataset", id.dataset, false); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.datasets[id] != nil {
		return nil, refuse(Duplicate, id.String(), "Already Exists: Dataset %s", id)
	}
	meta := *in
	meta.Kind, meta.Id, meta.Type = "bigquery#dataset", id.String(), "DEFAULT"
	meta.DatasetReference = &api.DatasetReference{ProjectId: project, DatasetId: id.dataset}
	meta.SelfLink = fmt.Sprintf("/bigquery/v2/projects/%s/datasets/%s", project, id.dataset)
	meta.Location = cmp.Or(in.Location, "US")
	meta.CreationTime = s.now().UnixMilli()
	meta.LastModifiedTime = meta.CreationTime
	meta.Etag = s.etag()
	s.datasets[id] = &dataset{meta: &meta, tables: make(map[string]*table)}
	return &meta, nil
}

// Dataset returns a dataset's metadata; it is the caller's to read only.
func (s *Store) Dataset(project, name string) (*api.Dataset, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	d, err := s.find(datasetID{project, name})
	if err != nil {
		return nil, err
	}
	return d.meta, nil
}

// UpdateDataset changes a dataset's metadata: patch is a JSON object whose members replace, or with null remove, those of
// the dataset. With replace it is the whole new metadata. etag, if not "", must be the current one.
func (s *Store) UpdateDataset(project, name string, patch []byte, replace bool, etag string) (*api.Dataset, error) {
	id := datasetID{project, name}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.find(id)
	if err != nil {
		return nil, err
	}
	if etag != "" && etag != d.meta.Etag {
		return nil, stale(id.String(), etag, d.meta.Etag)
	}
	var meta api.Dataset
	if err := merge(d.meta, patch, replace, &meta); err != nil {
		return nil, refuse(Invalid, id.String(), "Dataset %s: %v", id, err)
	}
	if meta.Location != "" && meta.Location != d.meta.Location {
		return nil, refuse(Invalid, id.String(), "Dataset %s: the location cannot be changed", id)
	}
	meta.Kind, meta.Id, meta.Type, meta.SelfLink = d.meta.Kind, d.meta.Id, d.meta.Type, d.meta.SelfLink
	meta.DatasetReference, meta.Location, meta.CreationTime = d.meta.DatasetReference, d.meta.Location, d.meta.CreationTime
	meta.LastModifiedTime = s.now().UnixMilli()
	meta.Etag = s.etag()
	d.meta = &meta
	return &meta, nil
}

// DeleteDataset deletes a dataset; one with tables only if contents is true.
func (s *Store) DeleteDataset(project, name string, contents bool) error {
	id := datasetID{project, name}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.find(id)
	if err != nil {
		return err
	}
	if len(d.tables) > 0 && !contents {
		return refuse(InUse, id.String(), "Dataset %s is still in use", id)
	}
	delete(s.datasets, id)
	return nil
}

// Datasets returns a project's datasets by name.
func (s *Store) Datasets(project string) []*api.Dataset {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var out []*api.Dataset
	for id, d := range s.datasets {
		if id.project == project {
			out = append(out, d.meta)
		}
	}
	slices.SortFunc(out, func(a, b *api.Dataset) int { return cmp.Compare(a.Id, b.Id) })
	return out
}

// Tables returns a dataset's tables by name.
func (s *Store) Tables(project, name string) ([]*api.Table, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	d, err := s.find(datasetID{project, name})
	if err != nil {
		return nil, err
	}
	var out []*api.Table
	for _, k := range slices.Sorted(maps.Keys(d.tables)) {
		out = append(out, d.tables[k].resource())
	}
	return out, nil
}

func stale(entity, given, current string) error {
	return refuse(EtagMismatch, entity, "Precondition check failed: %s has etag %s, not %s", entity, current, given)
}

// checkID checks a dataset's or table's name.
func checkID(what, id string, dash bool) error {
	if id == "" || len(id) > 1024 {
		return refuse(Invalid, id, "Invalid %s ID %.40q: 1 to 1024 characters are allowed", what, id)
	}
	for _, c := range id {
		ok := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || dash && c == '-'
		if !ok {
			return refuse(Invalid, id, "Invalid %s ID %.40q: it must be alphanumeric (plus underscores%s)", what, id,
				map[bool]string{true: " and dashes"}[dash])
		}
	}
	return nil
}

// merge decodes into out what in becomes by a patch: objects merge member by member, null removes, anything else replaces.
func merge(in any, patch []byte, replace bool, out any) error {
	var p, merged map[string]any
	if err := decode(patch, &p); err != nil {
		return fmt.Errorf("the request is not a JSON object: %w", err)
	}
	if !replace {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		if err := decode(b, &merged); err != nil {
			return err
		}
	}
	b, err := json.Marshal(mergeObject(merged, p))
	if err != nil {
		return err
	}
	return json.Unmarshal(b, out)
}

// decode keeps numbers as they are written.
func decode(b []byte, out any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return d.Decode(out)
}

func mergeObject(in, patch map[string]any) map[string]any {
	out := maps.Clone(in)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range patch {
		object, ok := v.(map[string]any)
		switch {
		case v == nil:
			delete(out, k)
		case ok:
			old, _ := out[k].(map[string]any)
			out[k] = mergeObject(old, object)
		default:
			out[k] = v
		}
	}
	return out
}
