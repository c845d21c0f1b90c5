--
-- PostgreSQL database dump
--

\restrict testkit


SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: Shop; Type: SCHEMA; Schema: -; Owner: postgres
--

CREATE SCHEMA "Shop";


ALTER SCHEMA "Shop" OWNER TO postgres;

--
-- Name: state; Type: TYPE; Schema: Shop; Owner: postgres
--

CREATE TYPE "Shop".state AS ENUM (
    'new',
    'paid',
    'sent'
);


ALTER TYPE "Shop".state OWNER TO postgres;

--
-- Name: touch(); Type: FUNCTION; Schema: Shop; Owner: postgres
--

CREATE FUNCTION "Shop".touch() RETURNS trigger
    LANGUAGE plpgsql
    AS $$ BEGIN NEW.note := coalesce(NEW.note, 'touched'); RETURN NEW; END $$;


ALTER FUNCTION "Shop".touch() OWNER TO postgres;

SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: customers; Type: TABLE; Schema: Shop; Owner: postgres
--

CREATE TABLE "Shop".customers (
    id integer NOT NULL,
    name text NOT NULL,
    since date DEFAULT '2024-02-29'::date,
    data jsonb
);


ALTER TABLE "Shop".customers OWNER TO postgres;

--
-- Name: TABLE customers; Type: COMMENT; Schema: Shop; Owner: postgres
--

COMMENT ON TABLE "Shop".customers IS 'those who pay; 客户';


--
-- Name: customers_id_seq; Type: SEQUENCE; Schema: Shop; Owner: postgres
--

ALTER TABLE "Shop".customers ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME "Shop".customers_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: hashed; Type: TABLE; Schema: Shop; Owner: postgres
--

CREATE TABLE "Shop".hashed (
    id integer,
    word text
)
PARTITION BY HASH (word);


ALTER TABLE "Shop".hashed OWNER TO postgres;

--
-- Name: hashed_0; Type: TABLE; Schema: Shop; Owner: postgres
--

CREATE TABLE "Shop".hashed_0 (
    id integer,
    word text
);


ALTER TABLE "Shop".hashed_0 OWNER TO postgres;

--
-- Name: hashed_1; Type: TABLE; Schema: Shop; Owner: postgres
--

CREATE TABLE "Shop".hashed_1 (
    id integer,
    word text
);


ALTER TABLE "Shop".hashed_1 OWNER TO postgres;

--
-- Name: nothing; Type: TABLE; Schema: Shop; Owner: postgres
--

CREATE TABLE "Shop".nothing (
    x integer
);


ALTER TABLE "Shop".nothing OWNER TO postgres;

--
-- Name: orders; Type: TABLE; Schema: Shop; Owner: postgres
--

CREATE TABLE "Shop".orders (
    id bigint NOT NULL,
    at timestamp with time zone NOT NULL,
    customer integer,
    state "Shop".state DEFAULT 'new'::"Shop".state,
    amount numeric(12,2),
    note text,
    CONSTRAINT orders_amount_check CHECK ((amount >= (0)::numeric))
)
PARTITION BY RANGE (at);


ALTER TABLE "Shop".orders OWNER TO postgres;

--
-- Name: orders_id_seq; Type: SEQUENCE; Schema: Shop; Owner: postgres
--

CREATE SEQUENCE "Shop".orders_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


ALTER SEQUENCE "Shop".orders_id_seq OWNER TO postgres;

--
-- Name: orders_id_seq; Type: SEQUENCE OWNED BY; Schema: Shop; Owner: postgres
--

ALTER SEQUENCE "Shop".orders_id_seq OWNED BY "Shop".orders.id;


--
-- Name: orders_2024; Type: TABLE; Schema: Shop; Owner: postgres
--

CREATE TABLE "Shop".orders_2024 (
    id bigint DEFAULT nextval('"Shop".orders_id_seq'::regclass) NOT NULL,
    at timestamp with time zone NOT NULL,
    customer integer,
    state "Shop".state DEFAULT 'new'::"Shop".state,
    amount numeric(12,2),
    note text,
    CONSTRAINT orders_amount_check CHECK ((amount >= (0)::numeric))
);


ALTER TABLE "Shop".orders_2024 OWNER TO postgres;

--
-- Name: orders_2025; Type: TABLE; Schema: Shop; Owner: postgres
--

CREATE TABLE "Shop".orders_2025 (
    id bigint DEFAULT nextval('"Shop".orders_id_seq'::regclass) NOT NULL,
    at timestamp with time zone NOT NULL,
    customer integer,
    state "Shop".state DEFAULT 'new'::"Shop".state,
    amount numeric(12,2),
    note text,
    CONSTRAINT orders_amount_check CHECK ((amount >= (0)::numeric))
);


ALTER TABLE "Shop".orders_2025 OWNER TO postgres;

--
-- Name: sums; Type: MATERIALIZED VIEW; Schema: Shop; Owner: postgres
--

CREATE MATERIALIZED VIEW "Shop".sums AS
 SELECT customer,
    sum(amount) AS amount
   FROM "Shop".orders
  GROUP BY customer
  WITH NO DATA;


ALTER MATERIALIZED VIEW "Shop".sums OWNER TO postgres;

--
-- Name: unpaid; Type: VIEW; Schema: Shop; Owner: postgres
--

CREATE VIEW "Shop".unpaid AS
 SELECT o.id,
    c.name,
    o.amount
   FROM ("Shop".orders o
     JOIN "Shop".customers c ON ((c.id = o.customer)))
  WHERE (o.state = 'new'::"Shop".state);


ALTER VIEW "Shop".unpaid OWNER TO postgres;

--
-- Name: counter; Type: SEQUENCE; Schema: public; Owner: postgres
--

CREATE SEQUENCE public.counter
    START WITH 7
    INCREMENT BY 3
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;


ALTER SEQUENCE public.counter OWNER TO postgres;

--
-- Name: odd; Type: TABLE; Schema: public; Owner: postgres
--

CREATE TABLE public.odd (
    "größe €" text,
    b bytea,
    a integer[],
    span interval,
    t tsvector,
    doubled integer GENERATED ALWAYS AS ((1 * 2)) STORED
);


ALTER TABLE public.odd OWNER TO postgres;

--
-- Name: hashed_0; Type: TABLE ATTACH; Schema: Shop; Owner: postgres
--

ALTER TABLE ONLY "Shop".hashed ATTACH PARTITION "Shop".hashed_0 FOR VALUES WITH (modulus 2, remainder 0);


--
-- Name: hashed_1; Type: TABLE ATTACH; Schema: Shop; Owner: postgres
--

ALTER TABLE ONLY "Shop".hashed ATTACH PARTITION "Shop".hashed_1 FOR VALUES WITH (modulus 2, remainder 1);


--
-- Name: orders_2024; Type: TABLE ATTACH; Schema: Shop; Owner: postgres
--

ALTER TABLE ONLY "Shop".orders ATTACH PARTITION "Shop".orders_2024 FOR VALUES FROM ('2024-01-01 00:00:00+00') TO ('2025-01-01 00:00:00+00');


--
-- Name: orders_2025; Type: TABLE ATTACH; Schema: Shop; Owner: postgres
--

ALTER TABLE ONLY "Shop".orders ATTACH PARTITION "Shop".orders_2025 FOR VALUES FROM ('2025-01-01 00:00:00+00') TO ('2026-01-01 00:00:00+00');


--
-- Name: orders id; Type: DEFAULT; Schema: Shop; Owner: postgres
--

ALTER TABLE ONLY "Shop".orders ALTER COLUMN id SET DEFAULT nextval('"Shop".orders_id_seq'::regclass);


--
-- Data for Name: customers; Type: TABLE DATA; Schema: Shop; Owner: postgres
--

COPY "Shop".customers (id, name, since, data) FROM stdin;
1	customer 1	2024-02-29	{"n": 1, "tags": ["a", "ü"]}
10	customer 10	2024-02-29	{"n": 10, "tags": ["a", "ü"]}
11	customer 11	2024-02-29	{"n": 11, "tags": ["a", "ü"]}
12	customer 12	2024-02-29	{"n": 12, "tags": ["a", "ü"]}
13	customer 13	2024-02-29	{"n": 13, "tags": ["a", "ü"]}
14	customer 14	2024-02-29	{"n": 14, "tags": ["a", "ü"]}
15	customer 15	2024-02-29	{"n": 15, "tags": ["a", "ü"]}
16	customer 16	2024-02-29	{"n": 16, "tags": ["a", "ü"]}
17	customer 17	2024-02-29	{"n": 17, "tags": ["a", "ü"]}
18	customer 18	2024-02-29	{"n": 18, "tags": ["a", "ü"]}
19	customer 19	2024-02-29	{"n": 19, "tags": ["a", "ü"]}
2	customer 2	2024-02-29	{"n": 2, "tags": ["a", "ü"]}
20	customer 20	2024-02-29	{"n": 20, "tags": ["a", "ü"]}
3	customer 3	2024-02-29	{"n": 3, "tags": ["a", "ü"]}
4	customer 4	2024-02-29	{"n": 4, "tags": ["a", "ü"]}
5	customer 5	2024-02-29	{"n": 5, "tags": ["a", "ü"]}
6	customer 6	2024-02-29	{"n": 6, "tags": ["a", "ü"]}
7	customer 7	2024-02-29	{"n": 7, "tags": ["a", "ü"]}
8	customer 8	2024-02-29	{"n": 8, "tags": ["a", "ü"]}
9	customer 9	2024-02-29	{"n": 9, "tags": ["a", "ü"]}
\.


--
-- Data for Name: hashed_0; Type: TABLE DATA; Schema: Shop; Owner: postgres
--

COPY "Shop".hashed_0 (id, word) FROM stdin;
11	word 11
13	word 13
14	word 14
15	word 15
2	word 2
20	word 20
21	word 21
24	word 24
25	word 25
27	word 27
29	word 29
30	word 30
6	word 6
7	word 7
\.


--
-- Data for Name: hashed_1; Type: TABLE DATA; Schema: Shop; Owner: postgres
--

COPY "Shop".hashed_1 (id, word) FROM stdin;
1	word 1
10	word 10
12	word 12
16	word 16
17	word 17
18	word 18
19	word 19
22	word 22
23	word 23
26	word 26
28	word 28
3	word 3
4	word 4
5	word 5
8	word 8
9	word 9
\.


--
-- Data for Name: nothing; Type: TABLE DATA; Schema: Shop; Owner: postgres
--

COPY "Shop".nothing (x) FROM stdin;
\.


--
-- Data for Name: orders_2024; Type: TABLE DATA; Schema: Shop; Owner: postgres
--

COPY "Shop".orders_2024 (id, at, customer, state, amount, note) FROM stdin;
1	2024-06-01 12:00:00+00	1	new	0.00	touched
10	2024-08-21 12:00:00+00	10	new	11.25	tab\tline\nbackslash \\ end
11	2024-08-30 12:00:00+00	11	paid	12.50	note 10
12	2024-09-08 12:00:00+00	12	sent	13.75	note 11
13	2024-09-17 12:00:00+00	13	new	15.00	touched
14	2024-09-26 12:00:00+00	14	paid	16.25	tab\tline\nbackslash \\ end
15	2024-10-05 12:00:00+00	15	sent	17.50	note 14
16	2024-10-14 12:00:00+00	16	new	18.75	note 15
17	2024-10-23 12:00:00+00	17	paid	20.00	touched
18	2024-11-01 12:00:00+00	18	sent	21.25	tab\tline\nbackslash \\ end
19	2024-11-10 12:00:00+00	19	new	22.50	note 18
2	2024-06-10 12:00:00+00	2	paid	1.25	tab\tline\nbackslash \\ end
20	2024-11-19 12:00:00+00	20	paid	23.75	note 19
21	2024-11-28 12:00:00+00	1	sent	25.00	touched
22	2024-12-07 12:00:00+00	2	new	26.25	tab\tline\nbackslash \\ end
23	2024-12-16 12:00:00+00	3	paid	27.50	note 22
24	2024-12-25 12:00:00+00	4	sent	28.75	note 23
3	2024-06-19 12:00:00+00	3	sent	2.50	note 2
4	2024-06-28 12:00:00+00	4	new	3.75	note 3
5	2024-07-07 12:00:00+00	5	paid	5.00	touched
6	2024-07-16 12:00:00+00	6	sent	6.25	tab\tline\nbackslash \\ end
7	2024-07-25 12:00:00+00	7	new	7.50	note 6
8	2024-08-03 12:00:00+00	8	paid	8.75	note 7
9	2024-08-12 12:00:00+00	9	sent	10.00	touched
\.


--
-- Data for Name: orders_2025; Type: TABLE DATA; Schema: Shop; Owner: postgres
--

COPY "Shop".orders_2025 (id, at, customer, state, amount, note) FROM stdin;
25	2025-01-03 12:00:00+00	5	new	30.00	touched
26	2025-01-12 12:00:00+00	6	paid	31.25	tab\tline\nbackslash \\ end
27	2025-01-21 12:00:00+00	7	sent	32.50	note 26
28	2025-01-30 12:00:00+00	8	new	33.75	note 27
29	2025-02-08 12:00:00+00	9	paid	35.00	touched
30	2025-02-17 12:00:00+00	10	sent	36.25	tab\tline\nbackslash \\ end
31	2025-02-26 12:00:00+00	11	new	37.50	note 30
32	2025-03-07 12:00:00+00	12	paid	38.75	note 31
33	2025-03-16 12:00:00+00	13	sent	40.00	touched
34	2025-03-25 12:00:00+00	14	new	41.25	tab\tline\nbackslash \\ end
35	2025-04-03 12:00:00+00	15	paid	42.50	note 34
36	2025-04-12 12:00:00+00	16	sent	43.75	note 35
37	2025-04-21 12:00:00+00	17	new	45.00	touched
38	2025-04-30 12:00:00+00	18	paid	46.25	tab\tline\nbackslash \\ end
39	2025-05-09 12:00:00+00	19	sent	47.50	note 38
40	2025-05-18 12:00:00+00	20	new	48.75	note 39
41	2025-05-27 12:00:00+00	1	paid	50.00	touched
42	2025-06-05 12:00:00+00	2	sent	51.25	tab\tline\nbackslash \\ end
43	2025-06-14 12:00:00+00	3	new	52.50	note 42
44	2025-06-23 12:00:00+00	4	paid	53.75	note 43
45	2025-07-02 12:00:00+00	5	sent	55.00	touched
46	2025-07-11 12:00:00+00	6	new	56.25	tab\tline\nbackslash \\ end
47	2025-07-20 12:00:00+00	7	paid	57.50	note 46
48	2025-07-29 12:00:00+00	8	sent	58.75	note 47
49	2025-08-07 12:00:00+00	9	new	60.00	touched
50	2025-08-16 12:00:00+00	10	paid	61.25	tab\tline\nbackslash \\ end
51	2025-08-25 12:00:00+00	11	sent	62.50	note 50
52	2025-09-03 12:00:00+00	12	new	63.75	note 51
53	2025-09-12 12:00:00+00	13	paid	65.00	touched
54	2025-09-21 12:00:00+00	14	sent	66.25	tab\tline\nbackslash \\ end
55	2025-09-30 12:00:00+00	15	new	67.50	note 54
56	2025-10-09 12:00:00+00	16	paid	68.75	note 55
57	2025-10-18 12:00:00+00	17	sent	70.00	touched
58	2025-10-27 12:00:00+00	18	new	71.25	tab\tline\nbackslash \\ end
59	2025-11-05 12:00:00+00	19	paid	72.50	note 58
60	2025-11-14 12:00:00+00	20	sent	73.75	note 59
\.


--
-- Data for Name: odd; Type: TABLE DATA; Schema: public; Owner: postgres
--

COPY public.odd ("größe €", b, a, span, t) FROM stdin;
\N	\N	\N	\N	\N
naïve \\. \\N	\\x00ff5c0a	{1,NULL,3}	1 day 02:00:00	'a':1 'b':2
\.


--
-- Name: customers_id_seq; Type: SEQUENCE SET; Schema: Shop; Owner: postgres
--

SELECT pg_catalog.setval('"Shop".customers_id_seq', 20, true);


--
-- Name: orders_id_seq; Type: SEQUENCE SET; Schema: Shop; Owner: postgres
--

SELECT pg_catalog.setval('"Shop".orders_id_seq', 60, true);


--
-- Name: counter; Type: SEQUENCE SET; Schema: public; Owner: postgres
--

SELECT pg_catalog.setval('public.counter', 22, true);


--
-- Name: 4711..4712; Type: BLOB METADATA; Schema: -; Owner: postgres
--

SELECT pg_catalog.lo_create('4711');
SELECT pg_catalog.lo_create('4712');

ALTER LARGE OBJECT 4711 OWNER TO postgres;
ALTER LARGE OBJECT 4712 OWNER TO postgres;

--
-- Name: LARGE OBJECT 4711; Type: COMMENT; Schema: -; Owner: postgres
--

COMMENT ON LARGE OBJECT 4711 IS 'large';


--
-- Data for Name: 4711..4712; Type: BLOBS; Schema: -; Owner: postgres
--

BEGIN;

SELECT pg_catalog.lo_open('4711', 131072);
SELECT pg_catalog.lowrite(0, '\x746865206669727374206c61726765206f626a656374');
SELECT pg_catalog.lo_close(0);

SELECT pg_catalog.lo_open('4712', 131072);
SELECT pg_catalog.lowrite(0, '\x000102fffe');
SELECT pg_catalog.lo_close(0);

COMMIT;

--
-- Name: customers customers_name_key; Type: CONSTRAINT; Schema: Shop; Owner: postgres
--

ALTER TABLE ONLY "Shop".customers
    ADD CONSTRAINT customers_name_key UNIQUE (name);


--
-- Name: customers customers_pkey; Type: CONSTRAINT; Schema: Shop; Owner: postgres
--

ALTER TABLE ONLY "Shop".customers
    ADD CONSTRAINT customers_pkey PRIMARY KEY (id);


--
-- Name: orders orders_pkey; Type: CONSTRAINT; Schema: Shop; Owner: postgres
--

ALTER TABLE ONLY "Shop".orders
    ADD CONSTRAINT orders_pkey PRIMARY KEY (id, at);


--
-- Name: orders_2024 orders_2024_pkey; Type: CONSTRAINT; Schema: Shop; Owner: postgres
--

ALTER TABLE ONLY "Shop".orders_2024
    ADD CONSTRAINT orders_2024_pkey PRIMARY KEY (id, at);


--
-- Name: orders_2025 orders_2025_pkey; Type: CONSTRAINT; Schema: Shop; Owner: postgres
--

ALTER TABLE ONLY "Shop".orders_2025
    ADD CONSTRAINT orders_2025_pkey PRIMARY KEY (id, at);


--
-- Name: orders_customer_idx; Type: INDEX; Schema: Shop; Owner: postgres
--

CREATE INDEX orders_customer_idx ON ONLY "Shop".orders USING btree (customer) WHERE (state <> 'sent'::"Shop".state);


--
-- Name: orders_2024_customer_idx; Type: INDEX; Schema: Shop; Owner: postgres
--

CREATE INDEX orders_2024_customer_idx ON "Shop".orders_2024 USING btree (customer) WHERE (state <> 'sent'::"Shop".state);


--
-- Name: orders_2025_customer_idx; Type: INDEX; Schema: Shop; Owner: postgres
--

CREATE INDEX orders_2025_customer_idx ON "Shop".orders_2025 USING btree (customer) WHERE (state <> 'sent'::"Shop".state);


--
-- Name: orders_2024_customer_idx; Type: INDEX ATTACH; Schema: Shop; Owner: postgres
--

ALTER INDEX "Shop".orders_customer_idx ATTACH PARTITION "Shop".orders_2024_customer_idx;


--
-- Name: orders_2024_pkey; Type: INDEX ATTACH; Schema: Shop; Owner: postgres
--

ALTER INDEX "Shop".orders_pkey ATTACH PARTITION "Shop".orders_2024_pkey;


--
-- Name: orders_2025_customer_idx; Type: INDEX ATTACH; Schema: Shop; Owner: postgres
--

ALTER INDEX "Shop".orders_customer_idx ATTACH PARTITION "Shop".orders_2025_customer_idx;


--
-- Name: orders_2025_pkey; Type: INDEX ATTACH; Schema: Shop; Owner: postgres
--

ALTER INDEX "Shop".orders_pkey ATTACH PARTITION "Shop".orders_2025_pkey;


--
-- Name: orders touch; Type: TRIGGER; Schema: Shop; Owner: postgres
--

CREATE TRIGGER touch BEFORE INSERT ON "Shop".orders FOR EACH ROW EXECUTE FUNCTION "Shop".touch();


--
-- Name: orders orders_customer_fkey; Type: FK CONSTRAINT; Schema: Shop; Owner: postgres
--

ALTER TABLE "Shop".orders
    ADD CONSTRAINT orders_customer_fkey FOREIGN KEY (customer) REFERENCES "Shop".customers(id);


--
-- Name: SCHEMA "Shop"; Type: ACL; Schema: -; Owner: postgres
--

GRANT USAGE ON SCHEMA "Shop" TO museum_reader;


--
-- Name: TABLE customers; Type: ACL; Schema: Shop; Owner: postgres
--

GRANT SELECT ON TABLE "Shop".customers TO museum_reader;


--
-- PostgreSQL database dump complete
--

\unrestrict testkit

