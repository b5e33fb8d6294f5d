/*
 * log_ids.h - MESSAGE_ID of lines that one may want to be told of, for `journalctl MESSAGE_ID=...` and programs that
 * watch the journal. They stay what they are; fansyncd(1) lists them.
 */
#ifndef FANSYNCD_CORE_LOG_IDS_H
#define FANSYNCD_CORE_LOG_IDS_H

#define LOG_ID_STARTED "b4ebbb7c648b47a785336886fa229941"      /* the daemon watches, and began to mirror */
#define LOG_ID_STOPPING "cf77907875024c7183aa2c1635f48653"     /* it was told to stop */
#define LOG_ID_RELOADED "1e75c9a90b654ea4aea0e55a282e58c0"     /* a new configuration is in use */
#define LOG_ID_REFUSED "2ef230d2dddc4aa5a0a07054257446a2"      /* a new configuration has errors: the old one stays */
#define LOG_ID_FIRST_DONE "8961e1b285a041ceb768062f1cf9a686"   /* the first comparison of a sync is over */
#define LOG_ID_DOWN "74484b49c8da40f1bec2dcf691896473"	       /* a target can't be reached */
#define LOG_ID_BACK "da8864ef024647658265823f3b560b46"	       /* it can again, or a guard lets go on */
#define LOG_ID_STOPPED "04f6cdb46ee44cd3aa18764c00233eb2"      /* a guard against deletion stopped a sync */
#define LOG_ID_NO_SOURCE "318ae9dfd1124fe6b292779913373ce4"    /* a source is missing, or not the one of before */
#define LOG_ID_GIVEN_UP "1eb3c4819b444684923f7d3ec85a5b02"     /* a path was given up */
#define LOG_ID_RETRY "93640b8739064056a155760e0e17fab6"	       /* a path failed, and is tried again */
#define LOG_ID_WORKER_ENDED "88fa10608fdd418bbeb054ab18ca82ea" /* a worker ended by itself */

#endif
