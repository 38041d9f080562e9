/* Which errors pass by themselves. Of an answer to a whole command only a few codes are about what it carried: the rest
 * is the server's own trouble, however it is called. Of an operation within a bulk it is the other way round. What the
 * driver says about connections always passes. */
#include "client.h"

/* In the answer to one operation of a bulk. */
static const int64_t transient_codes[] = {
    6,    7,                   /* host unreachable, not found */
    24,   46,                  /* lock time-out, lock is busy */
    50,                        /* time limit */
    64,   79,                  /* write concern failed, or unknown on this member */
    89,   91,                  /* network time-out, shutting down */
    112,                       /* write conflict */
    134,  189,                 /* read concern not available yet, primary stepped down */
    43,   175,   237,   11601, /* cursor, plan or operation killed by a restart or an operator */
    133,  202,                 /* no member to ask, time limit between members */
    146,  14031,               /* out of memory, out of disk space */
    262,                       /* time limit of the connection */
    314,  365,                 /* object is busy, temporarily unavailable */
    8000, 16500,               /* a hosted store's quota, too many requests */
    9001, 10107, 11600, 11602, 13435, 13436,
};

/* In the answer to a command: what it carried can never be stored. */
static const int64_t document_codes[] = {
    2,     9,     14,    22, /* bad value, failed to parse, wrong type, invalid BSON */
    73,    121,   166,       /* no name for a collection, against its validator, a view */
    10334, 17419, 17420,     /* too large */
};

static bool is_in(const int64_t *codes, size_t n, int64_t code)
{
    for (size_t i = 0; i < n; i++)
        if (codes[i] == code)
            return true;
    return false;
}

bool code_is_transient(int64_t code)
{
    return is_in(transient_codes, sizeof(transient_codes) / sizeof(*transient_codes), code);
}

static bool is_login(const bson_error_t *error)
{
    if (error->domain == MONGOC_ERROR_CLIENT)
        return error->code == MONGOC_ERROR_CLIENT_AUTHENTICATE;
    return error->domain == MONGOC_ERROR_SCRAM || error->domain == MONGOC_ERROR_SASL ||
           (error->domain == MONGOC_ERROR_SERVER && (error->code == 18 || error->code == 13));
}

static bool is_refusal(const bson_error_t *error)
{
    switch (error->domain) {
    case MONGOC_ERROR_SERVER:
    case MONGOC_ERROR_QUERY:
        return is_in(document_codes, sizeof(document_codes) / sizeof(*document_codes), error->code);
    case MONGOC_ERROR_BSON:
    case MONGOC_ERROR_COMMAND:
    case MONGOC_ERROR_CURSOR:
    case MONGOC_ERROR_COLLECTION:
    case MONGOC_ERROR_NAMESPACE:
        return true;
    default:
        return false;
    }
}

enum store_result client_fail(struct store_client *client, const bson_error_t *error, struct error *err)
{
    client->cut_off = error->domain == MONGOC_ERROR_STREAM;
    if (is_login(error)) {
        /* A mistake in the settings, but of no event: whoever repeats the call later loses nothing. */
        error_set(err, "the store does not let us in (user, password or rights in WAYBILL_MONGO_URL): %s",
                  error->message);
        return STORE_UNAVAILABLE;
    }
    if (is_refusal(error)) {
        error_set(err, "the store refuses: %s (code %u)", error->message, error->code);
        return STORE_REFUSED;
    }
    error_set(err, "the store is not available: %s", error->message);
    return STORE_UNAVAILABLE;
}
