/* Inside the store: documents as JSON for people and their tools: times as RFC 3339 text, binary as base64. */
#ifndef STORE_JSON_PLAIN_H
#define STORE_JSON_PLAIN_H

#include "base/json.h"
#include "bson.h"

/* Members in the document's order; _id is called key at the top. */
void json_plain(struct json_writer *w, const bson_t *doc);

#endif
