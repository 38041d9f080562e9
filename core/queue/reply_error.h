/* What an error reply of Redis means for us. */
#ifndef QUEUE_REPLY_ERROR_H
#define QUEUE_REPLY_ERROR_H

enum reply_error {
    REPLY_UNAVAILABLE, /* passes by itself or when an operator acts: ask again later */
    REPLY_READ_ONLY,   /* the same, but another server may be the primary now: look for it by connecting again */
    REPLY_NO_GROUP,    /* the group or its stream is gone: Redis lost data */
    REPLY_NO_SCRIPT,   /* the script cache was emptied */
    REPLY_REFUSED,     /* wrong settings or a mistake of ours: asking again changes nothing */
};

/* text is the reply without the leading '-'. */
enum reply_error reply_error_of(const char *text);

/* What to do about a refusal, to put behind its text; "" when there is no advice. */
const char *reply_error_advice(const char *text);

#endif
