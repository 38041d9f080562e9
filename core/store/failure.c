/* Which errors pass by themselves. What the server says is for good unless its code is in the list; what the driver
 * says about connections always passes. */
#include "client.h"

static const int64_t transient_codes[] = {
    6,    7,                   /* host unreachable, not found */
    50,                        /* time limit */
    64,   79,                  /* write concern failed, or unknown on this member */
    89,   91,                  /* network time-out, shutting down */
    112,                       /* write conflict */
    134,  189,                 /* read concern not available yet, primary stepped down */
    43,   175,   237,   11601, /* cursor, plan or operation killed by a restart or an operator */
    262,                       /* time limit of the connection */
    9001, 10107, 11600, 11602, 13435, 13436,
};

bool code_is_transient(int64_t code)
{
    for (size_t i = 0; i < sizeof(transient_codes) / sizeof(transient_codes[0]); i++)
        if (transient_codes[i] == code)
            return true;
    return false;
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
        return !code_is_transient(error->code);
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
