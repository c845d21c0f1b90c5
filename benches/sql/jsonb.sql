-- Wide documents as jsonb, which compress well, some 200 MB at scale 1; psql variable "scale". All rows follow from their number.
SELECT (130000 * :scale)::integer AS orders \gset
SET synchronous_commit = off;
SET timezone = 'UTC';

CREATE SCHEMA app;
CREATE TABLE app.shops (id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE app.orders (id bigint PRIMARY KEY, shop_id integer NOT NULL, at timestamptz NOT NULL, document jsonb NOT NULL);

INSERT INTO app.shops SELECT n, 'Shop ' || n FROM generate_series(1, 50) n;
INSERT INTO app.orders
SELECT n, 1 + n % 50, timestamptz '2024-01-01' + n * interval '90 seconds',
       jsonb_build_object(
           'number', n, 'currency', 'EUR', 'state', (ARRAY['open', 'paid', 'shipped', 'returned'])[1 + n % 4],
           'customer', jsonb_build_object('id', md5('customer' || n % 9973), 'name', 'Customer ' || n % 9973, 'newsletter', n % 3 = 0, 'phone', NULL),
           'shipping_address', jsonb_build_object('street', 'Example Street ' || n % 300, 'city', (ARRAY['Berlin', 'München', 'Köln', 'São Paulo'])[1 + n % 4], 'country', 'DE'),
           'note', repeat('Please ring twice and leave the parcel with the neighbour. ', n % 4),
           'items', (SELECT jsonb_agg(jsonb_build_object(
                         'sku', substr(md5((n * 31::bigint + k) % 20000 || ''), 1, 10), 'title', 'An article of the catalogue, number ' || (n + k * 17) % 20000,
                         'quantity', 1 + k % 5, 'unit_price_cents', 100 + (n * 7::bigint + k * 131) % 90000, 'tax_rate', 0.19,
                         'options', jsonb_build_object('colour', (ARRAY['red', 'green', 'blue'])[1 + k % 3], 'gift_wrap', k % 7 = 0)) ORDER BY k)
                     FROM generate_series(1, 4 + n * 7 % 28) k))
FROM generate_series(1, :orders) n;

CREATE INDEX ON app.orders (shop_id, at);
CREATE INDEX ON app.orders ((document ->> 'state'));
ALTER TABLE app.orders ADD FOREIGN KEY (shop_id) REFERENCES app.shops;
ANALYZE;
